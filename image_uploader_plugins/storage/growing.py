# SPDX-License-Identifier: Apache-2.0
"""Files that are written in several parts, by one process after the other."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.storage.entries import HEAD, Staged
from image_uploader_plugins.storage.storage import Storage
from image_uploader_plugins.storage.writer import CREATE

_CHUNK = 1024 * 1024
# NOTE: opening a FIFO would wait for somebody at its other end.
_GO_ON = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Growing:
    """An open file to append to; ``begun`` of its bytes were there before.

    The caller ensures that no other process writes to it.
    """

    def __init__(self, storage: Storage, path: PurePosixPath, descriptor: int, begun: int) -> None:
        self._storage = storage
        self._path = path
        self._descriptor = descriptor
        self._size = begun
        self._head = b""
        self.begun = begun

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes that were there before; asked for before the first write()."""
        rest = self.begun
        while rest:
            count = min(_CHUNK, rest)
            chunk = self._storage.call(self._path, os.read, self._descriptor, count)
            if not chunk:
                raise errors.StorageError(self._storage.root / self._path, "became shorter")
            rest -= len(chunk)
            yield chunk

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._storage.write_all(self._path, self._descriptor, chunk)
        if not self._size:
            self._head = chunk[:HEAD]
        self._size += len(chunk)

    def finish(self) -> Staged:
        """Return it as a durable staged file; raise StorageError where others wrote to it."""
        self._storage.complete(self._path, self._descriptor)
        if os.fstat(self._descriptor).st_size != self._size:
            raise errors.StorageError(self._storage.root / self._path, "is written to by others")
        return Staged(self._path, self._size, self._head)


@contextlib.contextmanager
def growing(storage: Storage, path: PurePosixPath, limit: int) -> Iterator[Growing]:
    """Open a file to append to; a new one unless there is one of at most ``limit`` bytes.

    Anything else in its place is removed: links, pipes, files with other names,
    files of other users, and anything that cannot be opened.
    """
    with storage.folder_of(path, create=True) as folder:
        descriptor = _again(storage, path, folder, limit)
        if descriptor is None:
            descriptor = _anew(storage, path, folder)
        try:
            begun = storage.call(path, os.fstat, descriptor).st_size
            yield Growing(storage, path, descriptor, begun)
        finally:
            os.close(descriptor)


def _again(storage: Storage, path: PurePosixPath, folder: int, limit: int) -> int | None:
    # Look before opening, too, since opening a device may have effects.
    if storage.file(path) is None:
        return None
    try:
        descriptor = storage.call(path, os.open, path.name, _GO_ON, dir_fd=folder)
    except errors.StorageError:
        return None
    status = os.fstat(descriptor)
    ours = stat.S_ISREG(status.st_mode) and not storage.is_foreign(status.st_uid)
    if ours and status.st_nlink == 1 and status.st_size <= limit:
        return descriptor
    os.close(descriptor)
    return None


def _anew(storage: Storage, path: PurePosixPath, folder: int) -> int:
    found = storage.status(path)
    if found:
        storage.remove(found)
    descriptor = storage.call(path, os.open, path.name, CREATE, 0o600, dir_fd=folder)
    try:
        storage.give(path, descriptor)
    except BaseException:
        os.close(descriptor)
        storage.discard(path)
        raise
    return descriptor
