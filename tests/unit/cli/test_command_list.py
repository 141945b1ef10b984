# SPDX-License-Identifier: Apache-2.0
"""What each subcommand does, in a few words, and none of them imported for that."""

from __future__ import annotations

import argparse
import importlib.metadata
import inspect
from pathlib import Path

import pytest
from cliff.command import Command

from image_uploader_plugins.cli.command_list import CommandList
from image_uploader_plugins.cli.program import COMMANDS


class Known(Command):
    """Do what is known.

    And more.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        """Do nothing."""


# Not to be found in the source as a class.
Made = type("Made", (Command,), {"__doc__": "Do what was made."})


@pytest.fixture
def found() -> CommandList:
    return CommandList(COMMANDS)


def test_each_command_is_described_as_its_class_says(found: CommandList) -> None:
    entry_points = importlib.metadata.entry_points(group=COMMANDS)
    texts = {e.name: (inspect.getdoc(e.load()) or "").partition(".\n")[0] for e in entry_points}
    described = list(found.described())
    assert dict(described) == texts
    assert described == sorted(described)
    assert len(texts) > 10


def test_a_class_without_source_is_loaded(found: CommandList) -> None:
    found.add_command("known", Known)
    found.add_command("made", Made)
    described = dict(found.described())
    assert (described["known"], described["made"]) == ("Do what is known", "Do what was made")


def test_a_class_with_source_is_not_loaded(
    found: CommandList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = '''
class Other(Short):
    """Do something else."""

class Short(Command, kind=Any):
    """Do "this" shortly."""

class Long(
    Command, Another
):
    """Do it.

    And more.
    """

raise RuntimeError
'''
    (tmp_path / "somebodys_commands.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("Other", "Short", "Long"):
        value = f"somebodys_commands:{name}"
        found.commands[name] = importlib.metadata.EntryPoint(name, value, COMMANDS)
    described = dict(found.described())
    assert described["Other"] == "Do something else"
    assert described["Short"] == 'Do "this" shortly'
    assert described["Long"] == "Do it"


def test_one_that_cannot_be_loaded_spoils_no_other(found: CommandList) -> None:
    group = COMMANDS
    missing = importlib.metadata.EntryPoint("missing", "image_uploader_plugins.nowhere:X", group)
    found.commands["missing"] = missing
    described = dict(found.described())
    assert described["missing"].startswith("cannot be loaded: ")
    assert described["list"] == "List the images of a tree of local-export"


def test_a_command_is_loaded_when_it_is_asked_for(found: CommandList) -> None:
    kind, name, rest = found.find_command(["list", "-f", "json"])
    assert (kind.__name__, name, rest) == ("List", "list", ["-f", "json"])
