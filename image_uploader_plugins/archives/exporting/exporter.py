# SPDX-License-Identifier: Apache-2.0
"""Writing the images of a tree to an OCI layout."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.archives import oci_layout
from image_uploader_plugins.archives.exporting.destination import Item, destination
from image_uploader_plugins.archives.exporting.selection import Selection, selected
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.manifest import Descriptor, index_fields
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.patterns import Pattern
from image_uploader_plugins.storage import Reader, Storage


@dataclasses.dataclass
class Outcome:
    """The result of an export: counts, sizes in bytes, and what was left out, and why.

    Of ``sparse`` images just some platforms are here.
    """

    images: int = 0
    blobs: int = 0
    bytes_blobs: int = 0
    known: int = 0
    bytes_known: int = 0
    sparse: int = 0
    problems: Sequence[str] = ()


class Exporter:
    """Exports images of ``tree``, with hard links to its blobs unless those are ``copied``.

    ``meter`` counts repositories and files, and may stop the export.
    """

    def __init__(self, tree: Tree, *, copied: bool = False, meter: Meter | None = None) -> None:
        self._tree = tree
        self._copied = copied
        self._meter = meter or Meter()

    def export(
        self, path: Path, patterns: Sequence[Pattern] = (), known: frozenset[Digest] = frozenset()
    ) -> Outcome:
        """Write what matches to ``path``, without the blobs ``known`` to the other side.

        Raises ConfigurationError for a path in the tree, ImageUnknown for a
        pattern that nothing matches, and what a Destination does.
        """
        _check_apart(path, self._tree.storage.root)
        with selected(self._tree, patterns, self._meter) as selection:
            carried = {d: b for d, b in selection.blobs.items() if d not in known}
            items = [
                *(_Manifest(d, len(c), c) for d, c in sorted(selection.manifests.items())),
                *(self._blob(selection, blob) for _, blob in sorted(carried.items())),
            ]
            destination(path.absolute()).write(
                self._meter.each("Wrote {} files", items),
                _json(oci_layout.VERSION),
                _json(index_fields(selection.entries)),
            )
        return _outcome(selection, carried)

    def _blob(self, selection: Selection, blob: Descriptor) -> Item:
        tree = self._tree
        repository = tree.repository(selection.holders[blob.digest])
        file = repository.blob(blob.digest)
        if file is None:
            raise errors.BlobUnknown([blob.digest])
        pooled = tree.pool.file(blob.digest)
        # A blob that is not in the pool was never verified, and others may write to it.
        shared = pooled is not None and pooled.inode == file.inode and not self._copied
        return _Blob(blob.digest, file.size, tree.storage, file.path, shared)


@dataclasses.dataclass(frozen=True)
class _Manifest(Item):
    digest: Digest
    size: int
    content: bytes = dataclasses.field(repr=False)

    def chunks(self) -> Iterator[bytes]:
        yield self.content


@dataclasses.dataclass(frozen=True)
class _Blob(Item):
    digest: Digest
    size: int
    origin: Reader
    path: PurePosixPath
    shared: bool

    def chunks(self) -> Iterator[bytes]:
        try:
            yield from VerifiedStream(self.origin.chunks(self.path), self.digest, self.size)
        except errors.ContentMismatch as e:
            raise errors.StorageError(self.origin.root / self.path, str(e)) from e

    def link(self, storage: Storage) -> PurePosixPath | None:
        return storage.try_link(self.path, self.origin) if self.shared else None


def list_blobs(
    tree: Tree, patterns: Sequence[Pattern] = (), meter: Meter | None = None
) -> tuple[list[Digest], Sequence[str]]:
    """Return the blobs of what matches, for ``known`` of an export elsewhere, and the problems."""
    with selected(tree, patterns, meter) as selection:
        return sorted(selection.blobs), selection.problems


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()


def _outcome(selection: Selection, carried: Iterable[Digest]) -> Outcome:
    sizes = {digest: blob.size or 0 for digest, blob in selection.blobs.items()}
    carried = set(carried)
    known = sizes.keys() - carried
    return Outcome(
        len(selection.entries),
        len(carried),
        sum(sizes[digest] for digest in carried),
        len(known),
        sum(sizes[digest] for digest in known),
        sum(oci_layout.ABSENT in entry["annotations"] for entry in selection.entries),
        selection.problems,
    )


def _check_apart(path: Path, root: Path) -> None:
    place, tree = path.resolve(), root.resolve()
    if place == tree or tree in place.parents or place in tree.parents:
        raise errors.ConfigurationError(f"{path} and the tree in {root} must lie apart")
