# SPDX-License-Identifier: Apache-2.0
"""Fixtures of tripleo-common, whose state lives in classes: it is each test's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg
from tripleo_common.image import image_uploader

from image_uploader_plugins import loader, tripleo
from image_uploader_plugins.local_export import options
from image_uploader_plugins.sources import tries


@pytest.fixture(autouse=True)
def unused(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing remembered from the test before, and no waiting between retries."""
    image_uploader.BaseImageUploader.init_registries_cache()
    monkeypatch.setattr(image_uploader.PythonImageUploader, "lock", None)
    monkeypatch.setattr(image_uploader.PythonImageUploader, "uploaded_layers", {})
    # The tenacity of tripleo-common asks for it when it waits.
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)
    yield
    tripleo.uninstall()
    image_uploader.BaseImageUploader.init_registries_cache()


@pytest.fixture
def conf(root: Path) -> cfg.ConfigOpts:
    conf = loader.load_conf(config_files=[])
    options.values(conf)
    conf.set_override("root", str(root), group=options.GROUP)
    return conf


@pytest.fixture
def manager() -> Any:
    return image_uploader.ImageUploadManager([])
