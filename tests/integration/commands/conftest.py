"""Commands on a tree with one of everything, in this process."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from image_uploader_plugins.cli.app import main
from tests.integration.commands import content


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


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with all of the content, not to be changed."""
    root = tmp_path_factory.mktemp("full") / "image-serve"
    content.fill(root)
    return root


@pytest.fixture
def filled(root: Path, full: Path) -> Path:
    """The same for one test."""
    copy_tree(full, root)
    return root


def copy_tree(source: Path, target: Path) -> None:
    """A tree again, with what is linked in it, and its times."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
