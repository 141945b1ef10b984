# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from image_uploader_plugins.sources import tries
from image_uploader_plugins.testing import web_server
from tests.support.registry import TamperedRegistry
from tests.support.tripleo_common import conf, manager, unused

__all__ = ["conf", "manager", "unused"]


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between retries."""
    # The tenacity of tripleo-common asks for it when it waits.
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)


@pytest.fixture
def registry() -> TamperedRegistry:
    return TamperedRegistry([])


@pytest.fixture
def source_address(registry: TamperedRegistry) -> Iterator[str]:
    with web_server.serving(registry) as address:
        yield address
