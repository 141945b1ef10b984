# SPDX-License-Identifier: Apache-2.0
"""Command lines of image-uploader as a text shows them."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator

from image_uploader_plugins.cli.program import Main

PROGRAM = "image-uploader"

_TYPED = re.compile(r"^ *[$#] ((?:.*\\\n)*.*)", re.MULTILINE)


def typed(text: str) -> Iterator[list[str]]:
    """The arguments in command lines after a prompt, through all of a pipeline."""
    for match in _TYPED.finditer(text):
        lexer = shlex.shlex(match[1].replace("\\\n", " "), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = list(lexer)
        while starts := list(_starts(words)):
            words = words[starts[0] :]
            end = next((i for i, w in enumerate(words) if w[0] in "|&;<>"), len(words))
            yield words[:end]


def _starts(words: list[str]) -> Iterator[int]:
    """Where arguments begin; a file that output goes to is no program."""
    for number, word in enumerate(words):
        if word.endswith(PROGRAM) and not (number and words[number - 1].startswith(">")):
            yield number + 1


def parse(arguments: list[str]) -> argparse.Namespace:
    """As the command does; SystemExit for what it would not take."""
    app = Main()
    _, rest = app.parser.parse_known_args(arguments)
    factory, name, rest = app.command_manager.find_command(rest)
    return factory(app, None, cmd_name=name).get_parser(name).parse_args(rest)
