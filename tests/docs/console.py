# SPDX-License-Identifier: Apache-2.0
"""Pages as scripts: the files and commands they show, and what they say comes out.

A ``console`` block has commands after ``$`` or ``#`` and their output, in
which ``...`` stands for anything; a block with a caption is a file of that
name.  A comment that begins with ``run:`` is a command that readers do not
see.
"""

from __future__ import annotations

import dataclasses
import doctest
import re
import textwrap
from collections.abc import Iterator

from tests.support.checkout import PROJECT

SOURCE = PROJECT / "doc" / "source"

_BLOCK = re.compile(
    r"^\.\. code-block:: (?P<language>\w+)\n(?:   :caption: (?P<name>\S+)\n)?\n"
    r"(?P<text>(?:(?:   .*)?\n)+)"
    r"|^\.\. run: (?P<hidden>.+)\n",
    re.MULTILINE,
)
_PROMPT = re.compile(r"^[$#] ", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class File:
    """A file that the page shows whole."""

    name: str
    text: str


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line; ``output`` is None where nobody is told what comes out."""

    line: str
    output: str | None = None


def steps(page: str) -> Iterator[File | Command]:
    """What to do, in the page's order."""
    for match in _BLOCK.finditer((SOURCE / page).read_text()):
        if match["hidden"]:
            yield Command(match["hidden"])
            continue
        block = textwrap.dedent(match["text"]).strip("\n") + "\n"
        if match["name"]:
            yield File(match["name"], block)
        elif match["language"] == "console":
            yield from _commands(block)


def _commands(block: str) -> Iterator[Command]:
    for part in _PROMPT.split(block)[1:]:
        line, _, output = re.sub(r"\\\n\s*", "", part).partition("\n")
        yield Command(line, output)


def agrees(wanted: str, got: str) -> bool:
    """Whether output is what a page says: ``...`` is anything, spaces do not matter."""
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(wanted, got, options)
