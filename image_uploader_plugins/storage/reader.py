# SPDX-License-Identifier: Apache-2.0
"""Reading of files, links and folders."""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from image_uploader_plugins import errors
from image_uploader_plugins.storage import beneath
from image_uploader_plugins.storage.beneath import READ
from image_uploader_plugins.storage.entries import (
    File,
    Identity,
    entry,
    identities,
    identity,
    is_empty,
    listing,
    statuses,
    statuses_of,
)
from image_uploader_plugins.storage.folders import TOP, Folders, NotFound, Where

_CHUNK = 1024 * 1024
# A link, a socket, a file in a folder's place, no link in a link's place.
_SOMETHING_ELSE = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EINVAL)

_name = operator.itemgetter(0)


class Reader(Folders):
    """The files, links and folders below ``root``; no link is ever followed.

    Raises StorageDenied or another StorageError with the path in it; NotFound
    where something that must be there is missing.
    """

    # -- the file system

    def room(self) -> tuple[int, int | None]:
        """Return the bytes and the number of files that there is room for below the root.

        None for the number where the file system has no limit for it, as btrfs.
        """
        root = PurePosixPath()
        with self.folder(root) as folder:
            found = self.call(root, os.statvfs, folder)
        return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None

    # -- entries

    def status(self, path: Where) -> File | None:
        """Return the entry at ``path``; None if there is none."""
        if self.is_in_missing(path):
            return None
        try:
            found = self.call_beside(path, os.stat, follow_symlinks=False)
        except NotFound:
            return None
        return entry(str(path), found)

    def file(self, path: Where) -> File | None:
        """Return the regular file at ``path``; None if there is none."""
        found = self.status(path)
        return found if found and found.kind == "file" else None

    def lone_file(self, path: Where) -> File | None:
        """Do what file() does, but do not enter the folder: faster where no more of it is needed.

        In a block of holding() alone.
        """
        text, top = str(path), self._held.folders.get(TOP)
        if top is None or not beneath.is_available():
            return self.file(path)
        try:
            found = entry(text, self.call(text, beneath.status_beneath, top, text))
        except NotFound:
            return None
        except errors.StorageError:
            return self.file(path)  # which tells what is wrong, and where
        return found if found.kind == "file" else None

    def files(self, path: Where, names: Iterable[str]) -> dict[str, File]:
        """Return those of the names in a folder that are regular files."""
        try:
            with self.folder(path) as folder:
                found = self.call(path, statuses_of, folder, names)
        except NotFound:
            return {}
        start = f"{path}/"
        return {
            name: entry(start + name, status)
            for name, status in found.items()
            if stat.S_ISREG(status.st_mode)
        }

    def names(self, path: Where) -> dict[str, str]:
        """Return the names in a folder, each with "file", "folder", "link" or "other".

        Empty where there is no folder. Entries of the file system itself are
        left out, see listing().
        """
        try:
            with self.folder(path) as folder:
                return self.call(path, listing, folder)
        except NotFound:
            return {}

    def is_empty(self, path: Where) -> bool:
        """Return whether names() is empty, without reading all names of a large folder."""
        try:
            with self.folder(path) as folder:
                return self.call(path, is_empty, folder)
        except NotFound:
            return True

    def entries(self, path: PurePosixPath) -> list[File]:
        """Return the entries in a folder, sorted by name; none where there is no folder."""
        try:
            with self.folder(path) as folder:
                found = self.call(path, statuses, folder)
                start = f"{path}/" if path.name else ""
                files = (
                    entry(start + name, status) if status else self._entry(path / name, folder)
                    for name, status in sorted(found.items(), key=_name)
                )
                return list(filter(None, files))
        except NotFound:
            return []

    def _entry(self, path: PurePosixPath, folder: int) -> File | None:
        """Return the entry at ``path``, in an open folder; None where it has gone."""
        try:
            found = self.call(path, os.stat, path.name, dir_fd=folder, follow_symlinks=False)
        except NotFound:
            return None
        return entry(str(path), found)

    def below(
        self, path: PurePosixPath, enters: Callable[[File], bool] = lambda _: True
    ) -> Iterator[File]:
        """Yield all entries in a folder, at any depth, a folder before its content.

        ``enters`` says of each folder whether its content counts.
        """
        pending = [iter(self.entries(path))]
        while pending:
            found = next(pending[-1], None)
            if found is None:
                pending.pop()
                continue
            yield found
            if found.kind == "folder" and enters(found):
                pending.append(iter(self.entries(found.path)))

    def link_target(self, path: Where) -> str | None:
        """Return the target of the symbolic link at ``path``; None if there is no link."""
        try:
            found: str = self.call_beside(path, os.readlink)
            return found
        except NotFound:
            return None
        except errors.StorageError as e:
            if e.errno == errno.EINVAL:
                return None
            raise

    # -- content

    def read(self, path: Where, limit: int = 64 * _CHUNK) -> bytes:
        """Return a whole file; raise StorageError if it has more than ``limit`` bytes."""
        descriptor, size = self._opened_file(path)
        try:
            content = self.call(path, os.read, descriptor, min(size, limit, _CHUNK) + 1)
            if len(content) != size:  # as it is for all but small files
                content += b"".join(self._chunks(path, descriptor, limit, len(content)))
        finally:
            os.close(descriptor)
        if len(content) > limit:
            raise errors.StorageError(self.root / path, f"has more than {limit} bytes")
        return content

    def head(self, path: Where, count: int) -> bytes:
        """Return the first ``count`` bytes of a file, or all if it has fewer."""
        descriptor = self._open(path, stat.S_ISREG)
        try:
            return self.call(path, os.read, descriptor, count)
        finally:
            os.close(descriptor)

    def chunks(self, path: Where, limit: int | None = None) -> Iterator[bytes]:
        """Yield a file piece by piece; end soon after ``limit`` bytes, if there is a limit."""
        descriptor, whole = self._opened_file(path)
        try:
            asked = whole + 1 if whole < _CHUNK else _CHUNK
            chunk = self.call(path, os.read, descriptor, asked)
            if chunk:
                yield chunk
            if len(chunk) != whole or len(chunk) == asked:
                yield from self._chunks(path, descriptor, limit, len(chunk))
        finally:
            os.close(descriptor)

    def _chunks(
        self, path: Where, descriptor: int, limit: int | None, size: int
    ) -> Iterator[bytes]:
        """Yield the rest of an open file of which ``size`` bytes were read."""
        while limit is None or size <= limit:
            chunk = self.call(path, os.read, descriptor, _CHUNK)
            if not chunk:
                self._check_end(path, descriptor, size)
                return
            size += len(chunk)
            yield chunk

    def identities(self, path: Where, names: Iterable[str]) -> list[Identity]:
        """Return what tells many files in a folder from all others, in the order of their names."""
        with self.folder(path) as folder:
            return self.call(path, identities, folder, names)

    def contents(
        self, path: Where, names: Iterable[str], limit: int
    ) -> Iterator[tuple[Identity, bytes]]:
        """Yield identity and content of many small files in a folder, in the order of their names.

        Raises StorageError for a file of ``limit`` bytes or more.
        """
        with self.folder(path) as folder:
            for name in names:
                descriptor = self.call(path, os.open, name, READ, dir_fd=folder)
                try:
                    content = self.call(path, os.read, descriptor, limit)
                    status = os.fstat(descriptor)
                finally:
                    os.close(descriptor)
                is_whole = status.st_size == len(content) < limit
                if not is_whole or not stat.S_ISREG(status.st_mode):
                    raise errors.StorageError(self.root / path / name, "is not what belongs there")
                yield identity(status), content

    def _check_end(self, path: Where, descriptor: int, size: int) -> None:
        """Raise StorageError for a file that ended before its size: a part of it was not read."""
        whole = os.fstat(descriptor).st_size
        if size < whole:
            reason = f"ended after {size} of {whole} bytes"
            raise errors.StorageError(self.root / path, reason, errno.EIO)

    def _open(self, path: Where, fits: Callable[[int], bool]) -> int:
        """Open a file to read; ``fits`` returns whether a mode is of the right kind."""
        text = str(path)
        return self._walk(text) if text == TOP else self._opened_to_read(path, fits)[0]

    def _opened_file(self, path: Where) -> tuple[int, int]:
        """Open a file to read; return its descriptor and size."""
        descriptor, found = self._opened_to_read(path, stat.S_ISREG)
        return descriptor, found.st_size

    def _opened_to_read(
        self, path: Where, fits: Callable[[int], bool]
    ) -> tuple[int, os.stat_result]:
        descriptor = self.open_to_read(path)
        found = os.fstat(descriptor)
        if fits(found.st_mode):
            return descriptor, found
        os.close(descriptor)
        raise errors.StorageError(self.root / path, "is not what belongs there")

    def holds(self, path: Where, content: bytes) -> bool:
        """Return whether ``path`` is a file whose bytes are ``content``."""
        file = self.file(path)
        return bool(file and file.size == len(content) and self.read(path) == content)

    # -- for servers: an entry of another kind is NotFound

    def open(self, path: Where) -> BinaryIO:
        """Open a file to read; raises NotFound, StorageDenied or another StorageError."""
        with _of_its_kind():
            descriptor = self.call_beside(path, os.open, READ)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotFound(self.root / path, "not a file")
        return os.fdopen(descriptor, "rb", buffering=0)

    def is_folder(self, path: Where) -> bool:
        """Return whether there is a folder, which a link to one is not; raise StorageError."""
        try:
            with _of_its_kind(), self.folder(path):
                return True
        except NotFound:
            return False

    def readlink(self, path: Where) -> PurePosixPath:
        """Return the target of a symbolic link; raise the errors of open()."""
        with _of_its_kind():
            return PurePosixPath(self.call_beside(path, os.readlink))


@contextlib.contextmanager
def _of_its_kind() -> Iterator[None]:
    try:
        yield
    except errors.StorageError as e:
        if e.errno in _SOMETHING_ELSE:
            raise NotFound(e.path, e.reason) from e
        raise
