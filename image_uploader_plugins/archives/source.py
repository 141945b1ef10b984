"""An archive as what images are copied from, and the images it lists."""

from __future__ import annotations

import abc
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from image_uploader_plugins import errors, manifest
from image_uploader_plugins.archives.files import Files
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.source import Source

# Some 50,000 images.
LIST_LIMIT = 16 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Entry:
    """An image that an archive lists, by the name that it gives it, if any.

    ``repository`` is that part of the name where the archive says so;
    otherwise it has to be found out, since there may be a host in front.
    """

    descriptor: Descriptor
    name: str | None = None
    repository: str | None = None

    def __str__(self) -> str:
        return self.name or str(self.descriptor.digest)


class Archive(Source):
    """What all kinds of archives have in common: content by digest.

    ``entries`` are the images to be had, ``problems`` what was wrong with
    others: a name for it, and why.  With ``sparse`` an index may list
    manifests that are not there.
    """

    retryable = False

    def __init__(self, files: Files, *, sparse: bool = False) -> None:
        self.files = files
        self.entries: list[Entry] = []
        self.problems: list[tuple[str, errors.UploaderError]] = []
        self.sparse = sparse
        # Manifests that may be absent, since they were where the archive was written.
        self.known_absent: set[Digest] = set()

    @abc.abstractmethod
    def place(self, digest: Digest) -> str | None:
        """The file that should hold a digest's content, there or not."""

    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        """The manifest by digest; raises ImageUnknown, ManifestInvalid or ContentMismatch."""
        if not isinstance(reference, Digest) or not self.holds(reference):
            raise errors.ImageUnknown(f"no manifest {reference} in {self.files.path}")
        limit = manifest.SIZE_LIMIT
        stream = VerifiedStream([self.content(reference, limit)], reference, size)
        return Manifest.parse(b"".join(stream))

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        place = self.place(descriptor.digest)
        size = self.files.size(place) if place else None
        if place is None or size is None:
            raise errors.BlobUnknown([descriptor.digest])
        if descriptor.size not in (None, size):
            raise errors.SizeMismatch(descriptor.size or 0, size)
        return self.files.chunks(place)

    def children(self, index: Manifest) -> Sequence[Descriptor]:
        absent = [
            child.digest
            for child in index.manifests
            if child.media_type in manifest.MEDIA_TYPES and not self.holds(child.digest)
        ]
        unexpected = [digest for digest in absent if digest not in self.known_absent]
        if unexpected and not self.sparse:
            raise errors.ImageUnknown(
                "the index lists manifests that the archive does not hold (--sparse leaves them "
                "out): " + ", ".join(map(str, unexpected))
            )
        return [child for child in index.manifests if child.digest not in absent]

    def check(self, blobs: Iterable[Descriptor]) -> None:
        missing = [blob.digest for blob in blobs if not self.holds(blob.digest)]
        if missing:
            raise MissingBlobs(missing)

    def holds(self, digest: Digest) -> bool:
        place = self.place(digest)
        return place is not None and self.files.size(place) is not None

    def content(self, digest: Digest, limit: int) -> bytes:
        """A whole blob of up to ``limit`` bytes, unverified."""
        place = self.place(digest)
        if place is None:
            raise errors.BlobUnknown([digest])
        return self.files.read(place, limit)

    def close(self) -> None:
        self.files.close()


class MissingBlobs(errors.BlobUnknown):
    """Neither the archive nor the target has them."""

    def __str__(self) -> str:
        return "blobs neither in the archive nor in the target: " + ", ".join(
            map(str, self.digests)
        )


def load(files: Files, name: str, limit: int = LIST_LIMIT) -> Any:
    """A file of JSON; raises ArchiveInvalid."""
    content = files.read(name, limit)
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError as e:
        raise files.invalid(name, "is nested too deeply") from e
    except ValueError as e:
        raise files.invalid(name, f"is not JSON ({e})") from e


def mapping(files: Files, name: str, limit: int = LIST_LIMIT) -> Mapping[str, Any]:
    """A file that holds a JSON object; raises ArchiveInvalid."""
    fields = load(files, name, limit)
    if not isinstance(fields, dict):
        raise files.invalid(name, "is not a JSON object")
    return fields
