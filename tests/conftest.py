import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "image-serve"


@pytest.fixture
def driver(root: Path) -> LocalExportDriver:
    return LocalExportDriver(root)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """A command that runs in this process logs to what is standard error now, no longer."""
    logger = logging.getLogger()
    before, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = [handler for handler in logger.handlers if handler in before]
    logger.setLevel(level)
