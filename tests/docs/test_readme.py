# SPDX-License-Identifier: Apache-2.0
"""The README shows what the demonstration prints."""

from __future__ import annotations

import re
import textwrap

import pytest

from tests.docs import console
from tests.docs.test_commands import ROOT
from tests.support import commands

# What is another one each time.
_VARYING = (
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:PORT"),
    (re.compile(r"\d+\.\d seconds"), "N seconds"),
    (re.compile(r"\S*/image-uploader-demo-\w+/"), "TEMPORARY/"),
)


def settled(text: str) -> str:
    for pattern, replacement in _VARYING:
        text = pattern.sub(replacement, text)
    return text


@pytest.mark.slow
def test_the_demonstration() -> None:
    match = re.search(
        r"pulls everything back::\n\n((?:    .*\n|\n)+)", (ROOT / "README.rst").read_text()
    )
    assert match
    wanted = settled(textwrap.dedent(match[1]))
    assert wanted.count("PORT") == 2
    done = commands.process(None, "demo")
    assert done.returncode == 0, done.stderr
    assert console.agrees(wanted + "...\n", settled(done.stdout)), done.stdout
