# SPDX-License-Identifier: Apache-2.0
"""Registries as sources: asked by http at once, and with logins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from image_uploader_plugins.digest import VerifiedStream
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.sources.registries import Registry
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support.odd_registry import Asked, Hook, Reply, challenge, text

IMAGE: Image = images.image("ns/app", "1", [images.layer({"a": b"a"}), images.layer({"b": b"b"})])
LOGIN = Login("u", "p\u00e4ss")

Open = Callable[..., RegistrySource]


def source(
    address: str, name: object, meter: Meter | None = None, **settings: Any
) -> RegistrySource:
    """The repository ``name`` of the registry at ``host:port``."""
    plain = {address: f"http://{address}"}
    return RegistrySource(Registry(address, Settings(mirrors=plain, **settings)), str(name), meter)


def pull(source: RegistrySource) -> None:
    """Read the whole image."""
    found = source.manifest(Tag("1"))
    assert found.content == IMAGE.manifest.content
    for blob in found.blobs():
        for _ in VerifiedStream(source.blob(blob), blob.digest, blob.size):
            pass


def tokens(
    realm: str = "http://{address}/token?given=1",
    answer: Callable[[Asked], Any] | None = None,
    open_ping: bool = False,
    fields: Callable[[str], tuple[str, ...]] | None = None,
    value: str = "T",
) -> Hook:
    """A registry whose token server is at its own address."""

    def hook(asked: Asked) -> Reply | None:
        host = asked.headers["Host"]
        if asked.path == "/token":
            given = answer(asked) if answer else {"token": value}
            return given if isinstance(given, Reply) else text(given)
        if open_ping and asked.path == "/v2/":
            return None
        if asked.authorization == f"Bearer {value}":
            return None
        where = realm.format(address=host)
        return challenge(*(fields(where) if fields else (f'Bearer realm="{where}",service="s"',)))

    return hook


def passwords(expected: str = LOGIN.basic) -> Hook:
    return lambda asked: (
        None if asked.authorization == expected else challenge('Basic realm="r", charset="UTF-8"')
    )
