# SPDX-License-Identifier: Apache-2.0
"""The README shows what the demonstration prints."""

from __future__ import annotations

import re
import textwrap

import pytest

from tests.docs import console
from tests.docs.test_commands import ROOT
from tests.support import commands

# Nobody reads more lines than these.
SCREENS = 100

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
    assert "ContainerImagePrepare" in done.stdout
    assert len(done.stdout.splitlines()) < SCREENS


@pytest.mark.slow
def test_the_demonstration_without_tripleo_common() -> None:
    done = commands.without_tripleo_common(None, "demo")
    assert done.returncode == 0, done.stderr
    chosen = commands.process(None, "demo", "--flow", "sync")
    assert chosen.returncode == 0, chosen.stderr
    assert settled(chosen.stdout) == settled(done.stdout)
    assert "ContainerImagePrepare" not in done.stdout
    assert len([line for line in done.stdout.splitlines() if " blobs, " in line]) == 7
    assert len(done.stdout.splitlines()) < SCREENS


def test_the_flow_of_prepare_says_what_it_lacks() -> None:
    done = commands.without_tripleo_common(None, "demo", "--flow", "prepare")
    assert done.returncode == 1
    assert not done.stdout
    assert "install image-uploader-plugins[tripleo]" in done.stderr
