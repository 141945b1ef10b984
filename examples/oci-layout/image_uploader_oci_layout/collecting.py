# SPDX-License-Identifier: Apache-2.0
"""What a repository needs no more, and its removal."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from image_uploader_oci_layout import disk
from image_uploader_oci_layout.layout import Layout
from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.manifest import Manifest


def collect(layout: Layout, held: Collection[Digest], deleted: object) -> Deletion:
    """Remove what neither a name nor an upload (``held``) needs.

    ``deleted`` is a manifest that goes although its subject stays.  Raises
    ManifestInvalid or StorageError, and removes nothing, where a manifest
    that is needed cannot be read: what it needs cannot be known.
    """
    readable, broken = _read(layout)
    listed = {child.digest for manifest in readable.values() for child in manifest.manifests}
    live = _reachable(readable, [*layout.tags.values(), *(layout.pins - listed)], deleted)
    for digest in sorted(live & broken.keys()):
        raise broken[digest]
    needed = {blob for digest in live & readable.keys() for blob in _blobs(readable[digest])}
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


def _reachable(
    manifests: dict[Digest, Manifest], roots: Iterable[Digest], deleted: object
) -> set[Digest]:
    """From indexes to their children, and from subjects to what refers to them."""
    found: set[Digest] = set()
    todo = list(roots)
    while todo:
        digest = todo.pop()
        if digest not in found:
            found.add(digest)
            todo += [c.digest for c in manifests[digest].manifests] if digest in manifests else []
            todo += [
                name
                for name, manifest in manifests.items()
                if manifest.subject and manifest.subject.digest == digest and name != deleted
            ]
    return found


def _blobs(manifest: Manifest) -> Iterable[Digest]:
    """All that are named, also those that need not be here."""
    return (blob.digest for blob in (manifest.config, *manifest.layers) if blob)


def _remove(layout: Layout, digest: Digest) -> int:
    """Remove a blob; return the bytes that the disk got back, 0 if it has another name."""
    path = layout.blob(digest)
    with disk.errors_at(path):
        status = path.stat()
        path.unlink()
    return status.st_size if status.st_nlink == 1 else 0
