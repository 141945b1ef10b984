"""A tree with one of everything, and the commands as a user runs them."""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import trees
from tests.support.content import referrer

Command = Callable[..., tuple[int, str]]

SUBJECT = images.image("ns/img", "1.0", [images.layer({"file": b"one"})])
OTHER = images.image("ns/img", "2.0", [images.layer({"file": b"two"})])
CONTENT = [
    *images.corpus(),
    SUBJECT,
    OTHER,
    referrer(SUBJECT, "application/vnd.example.sbom+json", "about"),
    images.image("ns/copy", "1.0", [images.layer({"file": b"one"})]),
]


@pytest.fixture
def filled(root: Path) -> Path:
    with LocalExportDriver(root) as driver:
        for image in CONTENT:
            trees.put(driver, image)
    return root


@pytest.fixture
def command(root: Path, tmp_path: Path) -> Command:
    """The installed command on the tree: its exit status and what it prints."""
    config = tmp_path / "image-uploader.conf"
    config.write_text(f"[local_export]\nroot = {root}\n")
    program = Path(sysconfig.get_path("scripts")) / "image-uploader"

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(program), "--config-file", str(config), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return run
