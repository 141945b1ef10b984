# SPDX-License-Identifier: Apache-2.0
"""Every command line that is shown somewhere is one that the command takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from image_uploader_plugins.cli.program import Main
from tests.support.checkout import PROJECT
from tests.support.command_lines import PROGRAM, parse, typed

ROOT = PROJECT
PAGES = sorted(
    [*ROOT.glob("*.rst"), *(ROOT / "doc").rglob("*.rst"), *(ROOT / "examples").rglob("*.rst")]
)
_NAMED = re.compile(r"``(image-uploader\s[^`]+)``")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_command_lines(page: Path) -> None:
    for arguments in typed(page.read_text()):
        try:
            parse(arguments)
        except (SystemExit, ValueError) as e:
            pytest.fail(f"{PROGRAM} {shlex.join(arguments)}: {e!r}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_in_a_sentence(page: Path) -> None:
    for match in _NAMED.finditer(page.read_text()):
        words = match[1].split()[1:]
        app = Main()
        factory, name, _ = app.command_manager.find_command(words)
        known = factory(app, None, cmd_name=name).get_parser(name)._option_string_actions
        unknown = [word for word in words if word.startswith("-") and word not in known]
        assert not unknown, f"{match[1]}: no {unknown}"


def test_there_are_such_lines() -> None:
    lines = [line for page in PAGES for line in typed(page.read_text())]
    assert len(lines) > 20
    assert ["verify"] in lines
