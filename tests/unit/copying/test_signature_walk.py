# SPDX-License-Identifier: Apache-2.0
"""How many signatures an image may have."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.copying.signature_walk import signatures
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.source import IsHeld, Source

SIGNED = Digest.of(b"signed")


class Signing(Source):
    """A source of a manifest with so many signatures, that are signed by nothing."""

    def __init__(self, count: int) -> None:
        found = (Digest.of(b"%d" % number) for number in range(count))
        self.found = [Descriptor(media_types.OCI_MANIFEST, digest, 1) for digest in found]

    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        raise AssertionError(reference)

    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        raise AssertionError(descriptor)

    def signatures(
        self,
        digest: Digest,
        is_held: IsHeld = lambda _tag, _descriptor: False,
        types: Collection[str] = (),
    ) -> Iterator[tuple[Tag | None, Descriptor]]:
        return iter([(None, found) for found in self.found] if digest == SIGNED else [])


def walk(source: Signing) -> list[tuple[Tag | None, Descriptor]]:
    return list(signatures(source, [SIGNED], Meter(), "ns/app:1", lambda _tag, _descriptor: False))


def test_as_many_as_allowed(caplog: pytest.LogCaptureFixture) -> None:
    assert len(walk(Signing(200))) == 200
    assert not caplog.text


@pytest.mark.parametrize("count", [201, 300])
def test_signatures_are_bounded(count: int, caplog: pytest.LogCaptureFixture) -> None:
    source = Signing(count)
    assert walk(source) == [(None, signature) for signature in source.found[:200]]
    assert "ns/app:1: more than 200 signatures" in caplog.text
