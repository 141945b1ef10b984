# SPDX-License-Identifier: Apache-2.0
"""The folders of the tests: what is shared lies in support, and nothing is shared otherwise."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import PROJECT

TESTS = PROJECT / "tests"
FILES = sorted(TESTS.rglob("*.py"))
SUPPORT = "tests.support"


def folder_of(file: Path) -> str:
    return ".".join(file.parent.relative_to(PROJECT).parts)


def imported(source: str) -> Iterator[str]:
    """The folders of the tests that a source imports from."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "tests":
                yield _folder(name)


def _folder(name: str) -> str:
    """The longest part of a dotted name that is a folder."""
    words = name.split(".")
    while not PROJECT.joinpath(*words).is_dir():
        words.pop()
    return ".".join(words)


def foreign(folder: str, source: str) -> set[str]:
    """What a file in ``folder`` imports from another than it may."""
    return set(imported(source)) - {folder, SUPPORT}


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_only_support_is_imported_from_elsewhere(file: Path) -> None:
    assert foreign(folder_of(file), file.read_text()) == set()


def test_what_is_not_allowed() -> None:
    folder = "tests.unit.serving"
    for source in (
        "from tests.unit.storage import conftest",
        "from tests.unit.storage.conftest import x",
        "import tests.integration.servers.conftest",
        "def f():\n    from tests.unit import conftest",
        "from tests import conftest",
    ):
        assert foreign(folder, source), source
        assert foreign(SUPPORT, source), source
    for source in ("from tests.unit.serving.conftest import x", "from tests.support import trees"):
        assert not foreign(folder, source), source


def test_one_place_knows_where_the_program_is() -> None:
    """And how it is run in this process."""
    knowing = [
        str(file.relative_to(TESTS))
        for file in FILES
        if file != Path(__file__)
        and any(word in file.read_text() for word in ('name("image-uploader")', "app import main"))
    ]
    assert knowing == ["support/commands.py"]
