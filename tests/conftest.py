from pathlib import Path

import pytest

from image_uploader_plugins.local_export.driver import LocalExportDriver


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "image-serve"


@pytest.fixture
def driver(root: Path) -> LocalExportDriver:
    return LocalExportDriver(root)
