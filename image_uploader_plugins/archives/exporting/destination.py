# SPDX-License-Identifier: Apache-2.0
"""The target of an export: a directory or a tar, which is valid only when it is whole."""

from __future__ import annotations

import abc
import contextlib
import fcntl
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.archives import oci_layout
from image_uploader_plugins.archives.archive_files import Folder
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.layout import PLACES, STAGING, STATE
from image_uploader_plugins.storage import Storage, mapped

_TAR = re.compile(r".*\.(?:tar(?:\.\w+)?|tgz)")
_RECORD = 20 * tarfile.BLOCKSIZE  # pax, "ustar Interchange Format": 20 blocks unless told

_INDEX = PurePosixPath(oci_layout.INDEX)
_OURS = frozenset({oci_layout.VERSION_FILE, oci_layout.INDEX, oci_layout.BLOBS, STATE.name})
# Other entries that may be at the top of a disk.
_HARMLESS = frozenset({"lost+found"})


class Item(abc.ABC):
    """Content to export: its digest, and its size in bytes."""

    digest: Digest
    size: int

    @abc.abstractmethod
    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes, verified; raises StorageError."""

    def link(self, storage: Storage) -> PurePosixPath | None:
        """Make a temporary hard link in ``storage``; None where there can be none."""
        return None


class Destination(abc.ABC):
    """A place that a layout is written to."""

    @abc.abstractmethod
    def write(self, items: Iterable[Item], version: bytes, index: bytes) -> None:
        """Write a layout of just these items; until the end, readers see what was there before.

        Raises StorageError, and ArchiveInvalid for a place that belongs to
        somebody else.
        """


class FolderDestination(Destination):
    """A directory, new or of an earlier export, which is brought up to date.

    Blobs that are there stay, so an export that was cut short goes on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._storage = Storage(path, PLACES)

    def write(self, items: Iterable[Item], version: bytes, index: bytes) -> None:
        self._storage.make_root()
        with self._alone(), _tidying(self._storage):
            self._check()
            self._storage.write(PurePosixPath(oci_layout.VERSION_FILE), version)
            kept = {str(self._put(item)) for item in items}
            # What it lists must outlive a power loss that it outlives.
            self._storage.sync()
            self._storage.write(_INDEX, index)
            for file in list(self._storage.below(PurePosixPath(oci_layout.BLOBS))):
                if file.kind == "file" and str(file.path) not in kept:
                    self._storage.unlink(file.path)
            self._storage.sync()

    def _put(self, item: Item) -> PurePosixPath:
        path = PurePosixPath(oci_layout.blob(item.digest))
        present = self._storage.file(path)
        if present is None or present.size != item.size:
            staged = item.link(self._storage) or self._storage.stage(item.chunks()).path
            self._storage.publish(staged, path)
        return path

    def _check(self) -> None:
        names = self._storage.names(PurePosixPath())
        strange = sorted(names.keys() - _OURS - _HARMLESS)
        if strange:
            raise errors.ArchiveInvalid(
                self._path, f"holds {strange[0]!r}, so it is no place for an export"
            )
        if oci_layout.INDEX in names:
            for fields in oci_layout.listed(Folder(self._path)):
                if oci_layout.REPOSITORY not in oci_layout.entry_annotations(fields):
                    raise errors.ArchiveInvalid(
                        self._path, f"{oci_layout.INDEX} lists an image that was not exported to it"
                    )

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        descriptor = mapped(self._path, os.open, self._path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # NOTE: file systems on a network may not lock directories.
            with contextlib.suppress(OSError):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as e:
                    raise errors.StorageError(self._path, "another export writes to it") from e
            yield
        finally:
            os.close(descriptor)


class TarDestination(Destination):
    """A tar file, the same bytes for the same content; index.json is its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._storage = Storage(path.parent, PLACES)

    def write(self, items: Iterable[Item], version: bytes, index: bytes) -> None:
        self._storage.make_root()
        with _tidying(self._storage):
            staged = self._storage.stage(_tar(items, version, index))
            self._storage.publish(staged.path, PurePosixPath(self._path.name))
            self._storage.sync()


def destination(path: Path) -> Destination:
    """Return a tar for a path that ends in .tar, otherwise a directory.

    Raises ConfigurationError for what looks like a compressed tar.
    """
    if path.is_dir() or not _TAR.fullmatch(path.name):
        return FolderDestination(path)
    if path.suffix != ".tar":
        raise errors.ConfigurationError(f"{path}: a tar is written plain, to a name in .tar")
    return TarDestination(path)


@contextlib.contextmanager
def _tidying(storage: Storage) -> Iterator[None]:
    """Remove temporary files at both ends: of exports that were killed, and our own."""
    try:
        for path in storage.staged_by_others():
            storage.remove_staged(path)
        yield
    finally:
        storage.close()
        for folder in (STAGING, STATE):
            storage.remove_empty(folder)


def _tar(items: Iterable[Item], version: bytes, index: bytes) -> Iterator[bytes]:
    total = 0
    for chunk in _members(items, version, index):
        total += len(chunk)
        yield chunk
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(total + end) % _RECORD)


def _members(items: Iterable[Item], version: bytes, index: bytes) -> Iterator[bytes]:
    yield from _member(oci_layout.VERSION_FILE, len(version), iter([version]))
    for item in items:
        yield from _member(oci_layout.blob(item.digest), item.size, item.chunks())
    yield from _member(oci_layout.INDEX, len(index), iter([index]))


def _member(name: str, size: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    header = tarfile.TarInfo(name)
    header.size = size
    yield header.tobuf(tarfile.PAX_FORMAT)
    yield from chunks
    yield bytes(-size % tarfile.BLOCKSIZE)
