# SPDX-License-Identifier: Apache-2.0
"""One browser and one tree for all tests of the page; each is watched while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.serving import listener
from image_uploader_plugins.testing import web_server
from tests.integration.browser.content import gallery
from tests.integration.browser.registry import Pretender
from tests.support import trees, web
from tests.support.browser import PLAIN_HOST, Browser, chromium


@pytest.fixture(scope="session")
def shared_browser() -> Iterator[Browser]:
    with chromium() as driver:
        yield Browser(driver)


@pytest.fixture
def browser(shared_browser: Browser) -> Iterator[Browser]:
    """Afterwards: no script but the page's own ran, the page had its way and asked us alone."""
    shared_browser.reset()
    yield shared_browser
    assert shared_browser.run("return window.spy") is None or not shared_browser.run(
        "return window.spy.alarms + window.spy.violations.length"
    )
    assert not shared_browser.messages()
    elsewhere = [
        url
        for url in shared_browser.asked()
        if not url.startswith(("http://127.0.0.1:", f"http://{PLAIN_HOST}:", "data:image/svg+xml,"))
    ]
    assert not elsewhere


@pytest.fixture(scope="session")
def gallery_root() -> Iterator[Path]:
    with web.open_folder() as folder:
        root = folder / "image-serve"
        with LocalExportDriver(root) as driver:
            for image in gallery():
                trees.put(driver, image)
        yield root


@pytest.fixture(scope="session")
def site(gallery_root: Path) -> Iterator[str]:
    """The URL of the page, as the embedded server serves it."""
    with listener.serving(gallery_root) as address:
        yield f"http://{address}/"


@pytest.fixture
def registry() -> Pretender:
    return Pretender([])


@pytest.fixture
def pretended(registry: Pretender) -> Iterator[str]:
    """The URL of the page, served by a registry that lies or breaks."""
    with web_server.serving(registry) as address:
        yield f"http://{address}/"
