# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator

import pytest

from image_uploader_plugins.testing import web_server
from image_uploader_plugins.testing.images import corpus
from tests.support.registry import TamperedRegistry
from tests.support.tripleo_common import conf, manager, unused

__all__ = ["conf", "manager", "unused"]


@pytest.fixture
def registry() -> TamperedRegistry:
    return TamperedRegistry(corpus())


@pytest.fixture
def source(registry: TamperedRegistry) -> Iterator[str]:
    with web_server.serving(registry) as address:
        yield address
