"""Every command line that is shown somewhere is one that the command takes."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins.cli.app import Main
from tests.support.checkout import PROJECT

ROOT = PROJECT
PAGES = sorted(
    [*ROOT.glob("*.rst"), *(ROOT / "doc").rglob("*.rst"), *(ROOT / "examples").rglob("*.rst")]
)
PROGRAM = "image-uploader"

_TYPED = re.compile(r"^ *[$#] ((?:.*\\\n)*.*)", re.MULTILINE)
_NAMED = re.compile(r"``(image-uploader\s[^`]+)``")


def typed(text: str) -> Iterator[list[str]]:
    """The arguments in command lines after a prompt, through all of a pipeline."""
    for match in _TYPED.finditer(text):
        lexer = shlex.shlex(match[1].replace("\\\n", " "), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = list(lexer)
        while any(word.endswith(PROGRAM) for word in words):
            start = next(i for i, word in enumerate(words) if word.endswith(PROGRAM)) + 1
            words = words[start:]
            end = next((i for i, w in enumerate(words) if w[0] in "|&;<>"), len(words))
            yield words[:end]


def parse(arguments: list[str]) -> argparse.Namespace:
    """As the command does; SystemExit for what it would not take."""
    app = Main()
    _, rest = app.parser.parse_known_args(arguments)
    factory, name, rest = app.command_manager.find_command(rest)
    return factory(app, None, cmd_name=name).get_parser(name).parse_args(rest)


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
