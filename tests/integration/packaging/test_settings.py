# SPDX-License-Identifier: Apache-2.0
"""What is said in two places for two tools is the same in both."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from tests.support.checkout import PROJECT

_HOOKS = {
    "ruff-pre-commit": "ruff",
    "doc8": "doc8",
    "codespell": "codespell",
    "pre-commit-hooks": "pre-commit-hooks",
}
_LICENCE = "# SPDX-License-Identifier: Apache-2.0"
# Not what is served or written into trees as it is: page.html and api.htaccess.
_LICENSED = (".py", ".conf", ".toml", ".yaml", ".ini", ".importlinter")


def _project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return found


def test_pre_commit_has_the_versions_of_the_extra() -> None:
    settings = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())
    hooks = {entry["repo"].rpartition("/")[2]: entry["rev"] for entry in settings["repos"]}
    pinned = dict(
        line.split("==") for line in _project()["optional-dependencies"]["lint"] if "==" in line
    )
    assert {_HOOKS[name]: rev for name, rev in hooks.items()} == {
        name: f"v{version}" for name, version in pinned.items()
    }


def test_tox_has_the_versions_of_the_classifiers() -> None:
    tox = configparser.ConfigParser()
    tox.read(PROJECT / "tox.ini")
    environments = re.findall(r"py3(\d+)", tox["tox"]["envlist"])
    prefix = "Programming Language :: Python :: 3."
    classifiers = _project()["classifiers"]
    assert environments == [c.removeprefix(prefix) for c in classifiers if c.startswith(prefix)]


def test_release_notes_have_the_suffix_by_which_reno_knows_them() -> None:
    names = [path.name for path in (PROJECT / "releasenotes" / "notes").iterdir()]
    assert names
    assert [n for n in names if not re.fullmatch(r"[a-z0-9-]+-[0-9a-f]{16}\.yaml", n)] == []


def _bears_a_licence(path: Path) -> bool:
    named = path.suffix in _LICENSED or path.name in _LICENSED or path.parent.name == ".ci"
    return path.is_file() and not path.is_symlink() and named


def test_files_name_their_licence() -> None:
    """All that may begin with a comment, but release notes, and what is empty or generated."""
    folders = (".ci", "benchmarks", "doc/source", "etc", "examples", "image_uploader_plugins")
    found = [path for folder in (*folders, "tests") for path in (PROJECT / folder).rglob("*")]
    found += [path for path in PROJECT.iterdir() if path.name != "setup.cfg"]
    texts = {path: path.read_text() for path in found if _bears_a_licence(path)}
    assert len(texts) > 300
    lines = {str(path): text.splitlines()[:2] for path, text in texts.items() if text}
    assert [name for name, first in lines.items() if _LICENCE not in first] == []
