# SPDX-License-Identifier: Apache-2.0
"""An archive as a source of images, and the images that it lists."""

from __future__ import annotations

import abc
import collections
import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from image_uploader_plugins import errors, image_config, manifest, media_types
from image_uploader_plugins.archives.archive_files import Files
from image_uploader_plugins.archives.budget import Budget, Exceeded
from image_uploader_plugins.archives.compression import Compression
from image_uploader_plugins.copying import image_walk
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.source import Source, without

ENTRIES_LIMIT = 50_000
NAMES_LIMIT = 5_000
KEPT_LIMIT = 64 * 1024**2  # bytes of manifests in memory


class Entry(NamedTuple):
    """An image that an archive lists, by the name that it gives it, if any.

    ``repository`` is that part of the name where the archive says so;
    otherwise it has to be found out, since there may be a host in front.
    Without one it is Docker Hub's where ``hub`` is set.  An entry with
    a ``suffix`` is no image but what cosign attaches to the one of that name:
    a signature (``.sig``), attestation (``.att``) or SBOM (``.sbom``).
    """

    descriptor: Descriptor
    name: str | None = None
    repository: str | None = None
    hub: bool = True
    suffix: str | None = None

    def __str__(self) -> str:
        return self.name or str(self.descriptor.digest)


class Archive(Source):
    """An archive of any kind: content by digest.

    ``entries`` are the images to be had, ``skipped`` says what else is listed
    and cannot be, ``notes`` what else there is to know.  With ``sparse`` an
    index may list manifests that are not there.
    """

    def __init__(self, files: Files, *, sparse: bool = False) -> None:
        self.files = files
        self.entries: list[Entry] = []
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self.sparse = sparse
        self._names: collections.Counter[Digest] = collections.Counter()
        self._reads = Budget(files.total, "has its manifests read again and again, all in all")
        self._manifests: collections.OrderedDict[Digest, Manifest] = collections.OrderedDict()
        self._kept = 0
        self._diff_ids: dict[Digest, int | None] = {}
        self._lock = threading.Lock()
        # Manifests that may be absent, since they were where the archive was written.
        self.known_absent: set[Digest] = set()

    def add(self, entry: Entry) -> None:
        """Add an image that can be imported; raises ArchiveInvalid where there are too many."""
        digest = entry.descriptor.digest
        self._names[digest] += 1
        if self._names[digest] > NAMES_LIMIT:
            reason = f"gives {digest} more than {NAMES_LIMIT} names"
            raise errors.ArchiveInvalid(self.files.path, reason)
        if len(self.entries) >= ENTRIES_LIMIT:
            raise errors.ArchiveInvalid(
                self.files.path, f"lists more than {ENTRIES_LIMIT} images and names of them"
            )
        self.entries.append(entry)

    @abc.abstractmethod
    def place(self, digest: Digest) -> str | None:
        """Return the name of the file that should hold a digest's content, there or not."""

    @abc.abstractmethod
    def digests(self) -> Iterator[Digest]:
        """Return the digests of all blobs that it holds."""

    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        """Return the manifest of a digest; raises ImageUnknown or ArchiveInvalid."""
        if not isinstance(reference, Digest) or not self.holds(reference):
            raise errors.ImageUnknown(
                f"{self.files.path}: holds no manifest {reference}", reference
            )
        with self._blamed(f"manifest {reference}: "):
            found = self._known(reference) or self._read(reference, size)
            if size is not None and size != len(found.content):
                raise errors.SizeMismatch(size, len(found.content))
            return found

    def _known(self, digest: Digest) -> Manifest | None:
        with self._lock:
            found = self._manifests.get(digest)
            if found:
                self._manifests.move_to_end(digest)
            return found

    def _read(self, digest: Digest, size: int | None) -> Manifest:
        content = self.content(digest, manifest.SIZE_LIMIT)
        self._reads.spend(len(content))
        found = Manifest.parse(b"".join(VerifiedStream([content], digest, size)))
        with self._lock:
            if self._manifests.setdefault(digest, found) is found:
                self._kept += len(content)
            while self._kept > KEPT_LIMIT:
                _, forgotten = self._manifests.popitem(last=False)
                self._kept -= len(forgotten.content)
        return found

    def fetch(self, descriptor: Descriptor) -> Manifest:
        """Return the manifest of a descriptor, checked against it; raises what manifest() does."""
        with self._blamed():
            return image_walk.fetch(self, descriptor)

    def check_layers(self, part: Manifest) -> None:
        """Raise ArchiveInvalid where an image and its config disagree on its layers."""
        reason = self.disagreement(part)
        if reason:
            raise errors.ArchiveInvalid(self.files.path, f"image {part.digest}: {reason}")

    def disagreement(self, part: Manifest) -> str | None:
        """Return what an image and its config disagree on; None where they agree, or need not.

        Raises ArchiveInvalid for a config that is damaged.
        """
        config = part.config
        if not config or not image_config.describes(part) or not self.holds(config.digest):
            return None
        if config.digest not in self._diff_ids:
            with self._blamed(f"config {config.digest}: "):
                self._diff_ids[config.digest] = self._count_diff_ids(config)
        count = self._diff_ids[config.digest]
        return None if count is None else image_config.disagreement(part.layers, count)

    def _count_diff_ids(self, config: Descriptor) -> int | None:
        content = self.content(config.digest, manifest.SIZE_LIMIT)
        self._reads.spend(len(content))
        config.digest.verify(content)
        try:
            found = image_config.diff_ids(content)
        except (errors.InvalidReference, errors.ManifestInvalid):
            return None  # what it is then, its users may know
        return None if found is None else len(found)

    def parts(self, descriptor: Descriptor) -> Iterator[tuple[Manifest, Digest]]:
        """Yield an image's manifests with their digests, each before the index that lists it."""
        with self._blamed():
            yield from image_walk.walk(self, self.fetch(descriptor), descriptor.digest)

    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        place = self.place(descriptor.digest)
        size = self.files.size(place) if place else None
        if place is None or size is None:
            raise MissingBlobs([descriptor.digest])
        if descriptor.size not in (None, size):
            reason = f"has {size} bytes, expected {descriptor.size}"
            raise errors.ArchiveInvalid(self.files.path, f"blob {descriptor.digest} {reason}")
        return without(self.files.chunks(place), start)

    def verify(self, descriptor: Descriptor) -> None:
        """Read a blob to the end; raises ArchiveInvalid unless it is what it should be."""
        chunks = self.blob(descriptor)
        head = next(chunks, b"")
        compression = Compression.of(head)
        subject = f"blob {descriptor.digest}"
        if compression:
            subject += f", compressed with {compression.name}"
        with self._blamed(f"{subject}: "):
            for _ in VerifiedStream(itertools.chain([head], chunks), descriptor.digest):
                pass

    def children(self, index: Manifest) -> Sequence[Descriptor]:
        absent = [
            child.digest
            for child in index.manifests
            if child.media_type in media_types.MANIFEST_TYPES and not self.holds(child.digest)
        ]
        unexpected = [digest for digest in absent if digest not in self.known_absent]
        if unexpected and not self.sparse:
            more = f" and {len(unexpected) - 1} more" if len(unexpected) > 1 else ""
            raise errors.ImageUnknown(
                f"{self.files.path}: lacks {unexpected[0]}{more} of an index "
                "(--sparse imports what is there)",
                unexpected[0],
            )
        return [child for child in index.manifests if child.digest not in absent]

    def holds(self, digest: Digest) -> bool:
        """Return whether the archive has the content of a digest, unverified."""
        place = self.place(digest)
        return place is not None and self.files.size(place) is not None

    def content(self, digest: Digest, limit: int) -> bytes:
        """Return a whole blob of up to ``limit`` bytes, unverified; it must be there."""
        return self.files.read(self.place(digest) or "", limit)

    @contextlib.contextmanager
    def _blamed(self, subject: str = "") -> Iterator[None]:
        """Raise ArchiveInvalid for damaged content: it names the archive and the ``subject``."""
        try:
            yield
        except (Exceeded, errors.ContentMismatch, errors.ManifestInvalid) as e:
            raise errors.ArchiveInvalid(self.files.path, f"{subject}{e}") from e

    def close(self) -> None:
        """Close the files of the archive."""
        self.files.close()


class MissingBlobs(errors.BlobUnknown):
    """Blobs that neither the archive nor the target has."""

    where = "neither in the archive nor in the target"
