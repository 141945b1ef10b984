"""Commands on a tree with one of everything, in this process."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from image_uploader_plugins.cli.main import main


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command left: its exit status, and what it wrote where."""

    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def config(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "image-uploader.conf"
    path.write_text(f"[local_export]\nroot = {root}\n")
    return path


@pytest.fixture
def run(config: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line on the tree."""

    def run(*arguments: str) -> Result:
        logger = logging.getLogger()
        before, level = logger.handlers[:], logger.level
        capsys.readouterr()
        try:
            status = main(["--config-file", str(config), *arguments])
        finally:
            logger.handlers[:] = before
            logger.setLevel(level)
        return Result(status, *capsys.readouterr())

    return run
