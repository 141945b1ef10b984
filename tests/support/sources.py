# SPDX-License-Identifier: Apache-2.0
"""Registries as sources, asked by http at once."""

from __future__ import annotations

from typing import Any

from image_uploader_plugins.meter import Meter
from image_uploader_plugins.sources.registries import Registry
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings


def source(
    address: str, name: object, meter: Meter | None = None, **settings: Any
) -> RegistrySource:
    """The repository ``name`` of the registry at ``host:port``."""
    plain = {address: f"http://{address}"}
    return RegistrySource(Registry(address, Settings(mirrors=plain, **settings)), str(name), meter)
