# SPDX-License-Identifier: Apache-2.0
"""One tree, served by every server, for all tests that only read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing.images import Image
from tests.support import quick, trees, web
from tests.support.content import everything


@pytest.fixture(scope="session")
def images() -> list[Image]:
    return everything()


@pytest.fixture(scope="session")
def root(images: list[Image]) -> Iterator[Path]:
    with web.open_folder() as folder:
        root = folder / "image-serve"
        with LocalExportDriver(root) as driver:
            for image in images:
                trees.put(driver, image)
        assert not trees.problems(root)
        for path in root.rglob("*"):
            if path.is_file():
                os.utime(path, (0, 0))  # Apache's ETag is a weak one for a second
        yield root


@pytest.fixture(scope="session", params=quick.alone({"embedded"}, web.KINDS))
def kind(request: pytest.FixtureRequest) -> web.Kind:
    kind: web.Kind = request.param
    return kind


@pytest.fixture(scope="session")
def server(kind: web.Kind, root: Path) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(web.serve(kind, root))
