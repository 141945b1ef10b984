# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from tests.support import trees
from tests.support.content import related


@pytest.fixture
def filled(root: Path) -> Path:
    with LocalExportDriver(root) as driver:
        for image in related():
            trees.put(driver, image)
    return root
