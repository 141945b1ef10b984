# SPDX-License-Identifier: Apache-2.0
"""A registry with one image, and sources that read it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.trust import Trust
from tests.support import odd_registry
from tests.support.odd_registry import OddRegistry
from tests.support.sources import IMAGE, Open


@pytest.fixture
def registry() -> OddRegistry:
    return OddRegistry([IMAGE])


@pytest.fixture
def address(registry: OddRegistry) -> Iterator[str]:
    with odd_registry.serving(registry) as address:
        yield address


@pytest.fixture
def open_source() -> Iterator[Open]:
    """Make a source of ns/app at an address, with a login and maybe other settings."""
    with contextlib.ExitStack() as stack:

        def open_source(address: str, login: Login | None = None, **settings: Any) -> Any:
            named = {address: login} if login else {}
            chain = Keychain(named, {})
            trust = settings.pop("trust", None) or Trust(certificates=(), environment={})
            made = Registries(Settings(keychain=chain, trust=trust, **settings))
            stack.callback(made.close)
            return RegistrySource(made.registry(address), "ns/app")

        yield open_source
