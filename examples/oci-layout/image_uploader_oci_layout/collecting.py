# SPDX-License-Identifier: Apache-2.0
"""What a repository needs no more, and its removal."""

from __future__ import annotations

from collections.abc import Collection

from image_uploader_oci_layout import disk
from image_uploader_oci_layout.layout import Layout
from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.local_export import graph
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import ImageRef


def collect(layout: Layout, held: Collection[Digest], target: ImageRef) -> Deletion:
    """Remove what neither a name nor an upload (``held``) needs.

    A manifest that is the ``target`` goes although its subject stays.  Raises
    ManifestInvalid or StorageError, and removes nothing, where a manifest
    that is needed cannot be read: what it needs cannot be known.
    """
    readable, broken = _read(layout)
    tags = {tag: [digest] for tag, digest in layout.tags.items()}
    found = graph.Inventory(target.repository, tags, {}, frozenset(layout.pins), readable, broken)
    live = found.live([target.reference])
    for digest in sorted(live & broken.keys()):
        raise broken[digest]
    needed = {blob.digest for digest in live for blob in graph.all_blobs(readable[digest])}
    dead = [d for d in layout.blobs() if d not in live | needed and d not in held]
    manifests = tuple(layout.manifests.keys() - live)
    for digest in manifests:
        del layout.manifests[digest]
    layout.pins.difference_update(manifests)
    layout.save()  # names first, content after
    freed = sum(_remove(layout, digest) for digest in dead)
    return Deletion(manifests, tuple(set(dead).difference(manifests)), freed)


def _read(layout: Layout) -> tuple[dict[Digest, Manifest], dict[Digest, errors.UploaderError]]:
    readable: dict[Digest, Manifest] = {}
    broken: dict[Digest, errors.UploaderError] = {}
    for digest in layout.manifests:
        try:
            readable[digest] = layout.read(digest)
        except (errors.ManifestInvalid, errors.StorageError) as e:
            broken[digest] = e
    return readable, broken


def _remove(layout: Layout, digest: Digest) -> int:
    """Remove a blob; return the bytes that the disk got back, 0 if it has another name."""
    path = layout.blob(digest)
    with disk.errors_at(path):
        status = path.stat()
        path.unlink()
    return status.st_size if status.st_nlink == 1 else 0
