# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from image_uploader_plugins.local_export import needs


@pytest.fixture(autouse=True)
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests are remembered however few, and no tag is, whose times would differ each time."""
    monkeypatch.setattr(needs, "WORTH", 0)
    monkeypatch.setattr(needs, "clock", int)


@pytest.fixture(autouse=True)
def strict_umask() -> Iterator[None]:
    """Modes come from nowhere else."""
    before = os.umask(0o077)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    os.umask(before)
