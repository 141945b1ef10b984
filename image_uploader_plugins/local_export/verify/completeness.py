# SPDX-License-Identifier: Apache-2.0
"""Verification that everything is present that one image needs."""

from __future__ import annotations

from collections.abc import Iterator

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.reports.holdings import Holdings
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify.contents import Contents
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.meter import Meter


def problems(
    tree: Tree, holdings: Holdings, digest: Digest, meter: Meter, *, hashing: bool
) -> Iterator[str]:
    """Yield each problem of an image's parts; with ``hashing``, read all content.

    ``meter`` counts the bytes that are read, and may stop that.
    """
    contents = Contents(tree.storage, meter) if hashing else None
    if hashing:
        readable = holdings.needed(digest) & holdings.manifests.keys()
        blobs = {b.digest: b.size or 0 for d in readable for b in holdings.manifests[d].blobs()}
        meter.expect(sum(blobs.values()))
    seen: set[Digest] = set()
    for needed in sorted(holdings.needed(digest)):
        if needed in holdings.broken:
            yield str(holdings.broken[needed])
            continue
        manifest = holdings.manifests[needed]
        absent = {child.digest for child in manifest.manifests} - holdings.inventory.present
        for child in sorted(absent - holdings.left_out(needed)):
            yield f"manifest {child} is missing"
        for blob in manifest.blobs():
            if blob.digest not in seen:
                seen.add(blob.digest)
                yield from _blob(tree, holdings, blob, contents)


def _blob(
    tree: Tree, holdings: Holdings, blob: Descriptor, contents: Contents | None
) -> Iterator[str]:
    file = holdings.file(blob.digest)
    if not file:
        yield f"blob {blob.digest} is missing"
    elif blob.size not in (None, file.size):
        yield (
            f"{tree.storage.root / file.path} has {file.size} bytes, "
            f"and the manifest says {blob.size}"
        )
    elif contents and (problem := contents.problem(blob.digest, file)):
        yield f"{tree.storage.root / file.path}: {problem}"
