# SPDX-License-Identifier: Apache-2.0

import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from tests.support import commands

# No test measures time: on a machine with other work an example takes any.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

# A shell ignores SIGINT for what it starts in the background, and that is inherited: commands
# under test would never be interrupted.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "image-serve"


@pytest.fixture
def driver(root: Path) -> LocalExportDriver:
    return LocalExportDriver(root)


@pytest.fixture
def config(root: Path, tmp_path: Path) -> Path:
    """A configuration of the command that names the tree."""
    return commands.configuration(root, tmp_path)


@pytest.fixture
def run(config: Path, capsys: pytest.CaptureFixture[str]) -> commands.Run:
    """The command on the tree, in this process."""
    return commands.Run(config, capsys)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A command that runs in this process logs to what is standard error now, no longer."""
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    yield
    for handler in set(logger.handlers) - set(before):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)
