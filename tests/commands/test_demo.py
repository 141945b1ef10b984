"""The README shows what the demonstration prints."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from tests.commands.conftest import Run
from tests.docs import console

README = Path(__file__).parents[2] / "README.rst"

# What differs from run to run, and from machine to machine.
_VARYING = (
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"Prepared into \S+:", "Prepared into PLACE:"),
    (r"[\d.]+ seconds?", "TIME"),
)


def normalised(text: str) -> str:
    for pattern, name in _VARYING:
        text = re.sub(pattern, name, text)
    return text


def test_the_readme_shows_what_is_printed(run: Run, tmp_path: Path) -> None:
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", README.read_text())
    (shown,) = (block for block in blocks if "A source registry with" in block)
    result = run("demo", "--root", str(tmp_path / "demo"))
    assert result.status == 0
    wanted = normalised(textwrap.dedent(shown)).rstrip() + "\n...\n"
    got = normalised(result.out)
    assert wanted.count("ADDRESS") == got.count("ADDRESS") - 1 == 2  # one in the environment
    assert console.agrees(wanted, got), got
