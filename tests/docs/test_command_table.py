# SPDX-License-Identifier: Apache-2.0
"""The table of all commands has each command, and says of it what the code says."""

from __future__ import annotations

import re

import pytest

from image_uploader_plugins.cli.local_tree import LocalTree
from image_uploader_plugins.cli.program import Main
from tests.docs.console import SOURCE

PAGE = (SOURCE / "commands.rst").read_text()


def rows() -> dict[str, list[str]]:
    """The cells of each row, by the command's name."""
    table = PAGE.partition("\nAll commands\n")[2].partition("\n\n*Any driver* is")[0]
    found = [
        [" ".join(cell.split()) for cell in row.split("\n     - ")]
        for row in table.split("\n   * - ")[2:]
    ]
    return {re.split(r"[` ]+", name)[1]: cells for name, *cells in found}


def test_every_command_is_there_in_its_own_words() -> None:
    described = dict(Main().command_manager.described())
    assert {name: what for name, (what, *_) in rows().items()} == described


@pytest.mark.parametrize("name", rows())
def test_what_it_works_on(name: str) -> None:
    _, reads, writes, who, _ = rows()[name]
    app = Main()
    factory, _, _ = app.command_manager.find_command([name])
    command = factory(app, None, cmd_name=name)
    assert ("a tree" in reads) == isinstance(command, LocalTree)
    assert who in {"anyone", "reader", "owner"}
    options = set(command.get_parser(name)._option_string_actions)
    assert ("files" in writes) == bool({"--report", "--metrics", "--output-env-file"} & options)
    assert "--dry-run" not in options or f"``{name}" in PAGE.partition("With ``--dry-run``")[2]
    said = re.findall(r"``(-[\w-]+)``", " ".join(rows()[name]))
    assert set(said) <= options
