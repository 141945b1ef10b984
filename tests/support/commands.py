# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader``: where it is, its configuration, and the two ways to run it."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from image_uploader_plugins.cli.app import main
from image_uploader_plugins.cli.program import Main

COMMANDS = sorted(name for name, _ in Main().command_manager)
"""The names of all subcommands."""

PROGRAM = str(Path(sys.executable).with_name("image-uploader"))
_DEADLINE = 120  # seconds

# As the command, but whoever imports tripleo-common fails as if it were not installed.
_REFUSING = """
import importlib.abc, runpy, sys

class Refusing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tripleo_common":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def configuration(root: Path, folder: Path, *options: str) -> Path:
    """A file in ``folder`` that names the tree; ``options`` are lines of the same section."""
    path = folder / "image-uploader.conf"
    path.write_text("\n".join(["[local_export]", f"root = {root}", *options, ""]))
    return path


def line(config: Path | None, *arguments: object) -> list[str]:
    """The words of a command line, for whoever starts the process."""
    chosen = ("--config-file", config) if config else ()
    return [PROGRAM, *map(str, (*chosen, *arguments))]


def process(
    config: Path | None, *arguments: object, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the installed command as a process of its own, to its end."""
    return subprocess.run(
        line(config, *arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=_DEADLINE,
        env=env,
    )


def without_tripleo_common(
    config: Path | None, *arguments: object
) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own, where tripleo-common is not installed."""
    return subprocess.run(
        [sys.executable, "-c", _REFUSING, *line(config, *arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_DEADLINE,
    )


def here(config: Path, *arguments: object) -> int:
    """Run the command in this process, which takes a tenth of the time; its exit status."""
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    try:
        return main(["--config-file", str(config), *map(str, arguments)])
    finally:
        logger.handlers[:] = before
        logger.setLevel(level)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command left: its exit status, and what it wrote where."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """All that it wrote."""
        return self.out + self.err

    @property
    def both(self) -> tuple[int, str]:
        """The status, and all that it wrote."""
        return self.status, self.said


class Run:
    """Runs the command in this process, and takes what it writes."""

    def __init__(self, config: Path, capture: pytest.CaptureFixture[str]) -> None:
        self._config = config
        self._capture = capture

    def __call__(self, *arguments: object) -> Result:
        self._capture.readouterr()
        status = here(self._config, *arguments)
        return Result(status, *self._capture.readouterr())
