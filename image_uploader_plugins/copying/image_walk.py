# SPDX-License-Identifier: Apache-2.0
"""All that belongs to an image: its manifests in order, checked and bounded."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest

LOG = logging.getLogger(__name__)

DEPTH_LIMIT = 4
"""An index may list indexes (OCI image-spec, image-index.md); nobody nests them deeper."""

_CHILDREN_LIMIT = 1000
_BLOBS_LIMIT = 10_000
_ARCHITECTURE = "amd64"


class Manifests(Protocol):
    """Manifests by digest, and which of an index belong to its image; a Source is one."""

    def manifest(self, reference: Digest, size: int | None = None) -> Manifest:
        """Return the manifest under ``reference``, checked against it and the size in bytes."""

    def children(self, index: Manifest) -> Sequence[Descriptor]:
        """Return those manifests of an index that belong to its image."""


def default_image(index: Manifest) -> Descriptor:
    """Return the linux/amd64 image of an index, or its first; raises ManifestInvalid for none."""
    chosen = index.default(_ARCHITECTURE)
    if chosen is None:
        raise errors.ManifestInvalid(f"the index {index.digest} lists no image")
    return chosen


def chosen_image(index: Manifest, target: object) -> Descriptor:
    """Return an index's default image; warn, naming the ``target``, where another one may be meant.

    Raises ManifestInvalid as default_image() does.
    """
    chosen = default_image(index)
    images = [d for d in index.manifests if not d.runs_nowhere]
    fitting = [d for d in images if d.platform.architecture == _ARCHITECTURE]
    if chosen.platform.architecture not in (_ARCHITECTURE, None):
        LOG.warning("%s: no image for %s, taking %s", target, _ARCHITECTURE, chosen.platform)
    elif len(fitting) > 1:
        LOG.warning(
            "%s: several images for %s, taking %s (%s)",
            *(target, _ARCHITECTURE, chosen.platform, chosen.digest),
        )
    return chosen


def fetch(source: Manifests, descriptor: Descriptor) -> Manifest:
    """Return a descriptor's manifest, checked against it; raises what the source does."""
    with naming(f"manifest {descriptor.digest}"):
        manifest = source.manifest(descriptor.digest, descriptor.size)
    if not manifest.declares_type and descriptor.media_type in media_types.MANIFEST_TYPES:
        manifest = Manifest.parse(manifest.content, descriptor.media_type)
    if manifest.media_type != descriptor.media_type:
        raise errors.ManifestInvalid(
            f"{descriptor.digest} is {manifest.media_type}, listed as {descriptor.media_type}"
        )
    return manifest


def walk(
    source: Manifests, manifest: Manifest, digest: Digest
) -> Iterator[tuple[Manifest, Digest]]:
    """Yield an image's manifests by digest, each once, and before the index that lists it.

    Raises ManifestInvalid for an index that is nested too deeply or has too
    many of them, and for an image with too many blobs, all in all.
    """
    blobs: set[str] = set()
    for part, name in _walk(source, manifest, digest, 0, {digest}):
        blobs.update(blob.digest.value for blob in part.blobs())
        if len(blobs) > _BLOBS_LIMIT:
            raise errors.ManifestInvalid(f"an image with more than {_BLOBS_LIMIT} blobs: {digest}")
        yield part, name


def _walk(
    source: Manifests, manifest: Manifest, digest: Digest, depth: int, seen: set[Digest]
) -> Iterator[tuple[Manifest, Digest]]:
    for child in source.children(manifest):
        if child.digest in seen or child.media_type not in media_types.MANIFEST_TYPES:
            continue
        seen.add(child.digest)
        if depth >= DEPTH_LIMIT or len(seen) > _CHILDREN_LIMIT + 1:
            raise errors.ManifestInvalid(
                f"an index nested deeper than {DEPTH_LIMIT} or with more than "
                f"{_CHILDREN_LIMIT} images: {manifest.digest}"
            )
        yield from _walk(source, fetch(source, child), child.digest, depth + 1, seen)
    yield manifest, digest


def left_behind(source: Manifests, index: Manifest) -> set[Digest]:
    """Return the manifests that an index lists and that do not belong to its image."""
    belonging = (
        child.digest
        for child in source.children(index)
        if child.media_type in media_types.MANIFEST_TYPES
    )
    return {child.digest for child in index.manifests}.difference(belonging)


@contextlib.contextmanager
def naming(subject: str) -> Iterator[None]:
    """Add a note to UploaderErrors that names their subject, for the report."""
    try:
        yield
    except errors.UploaderError as e:
        e.add_note(subject)
        raise
