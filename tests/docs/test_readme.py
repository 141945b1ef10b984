"""The README shows what the demonstration prints."""

from __future__ import annotations

import re
import subprocess
import sysconfig
import textwrap
from pathlib import Path

from tests.docs import console
from tests.docs.test_commands import ROOT

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


def test_the_demonstration() -> None:
    match = re.search(
        r"pulls everything back::\n\n((?:    .*\n|\n)+)", (ROOT / "README.rst").read_text()
    )
    assert match
    wanted = settled(textwrap.dedent(match[1]))
    assert wanted.count("PORT") == 2
    program = Path(sysconfig.get_path("scripts")) / "image-uploader"
    done = subprocess.run([str(program), "demo"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert console.agrees(wanted + "...\n", settled(done.stdout)), done.stdout
