# SPDX-License-Identifier: Apache-2.0
"""Folders of temporary files; other processes can tell whether their owner still runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.storage import fork
from image_uploader_plugins.storage.beneath import READ
from image_uploader_plugins.storage.folders import NO_LOCKS, Folders, NotFound
from image_uploader_plugins.storage.places import Places
from image_uploader_plugins.storage.unique import unique

_LOCK = ".lock"
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """One process's folder below ``places.staging``, made when it is first needed.

    Beside it is a file that the process keeps locked as long as it lives. A
    process that can lock it knows that the folder is not used any more.

    NOTE: a lock of flock belongs to the open file. One of lockf would belong to
    the process, so that two instances in one process would take each other's
    folder for stale.
    """

    def __init__(self, folders: Folders, places: Places) -> None:
        self._folders = folders
        self._top = places.staging
        self._release: weakref.finalize[[Path, PurePosixPath, int, int], Staging] | None = None
        self._renew()
        fork.in_child(self, Staging._renew)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        # A child of fork makes a folder of its own: the parent's goes with the parent.
        self._folder: str | None = None

    def new(self) -> str:
        """Return a path that is not in use, as text."""
        return f"{self._folder or self._made()}/{unique()}"

    def _made(self) -> str:
        with self._mutex:
            if self._folder is None:
                folder, descriptor = self._make()
                self._release = weakref.finalize(
                    self, _release, self._folders.root, folder, descriptor, os.getpid()
                )
                self._folder = str(folder)
            return self._folder

    def close(self) -> None:
        """Remove the folder; the next path is in a new one."""
        with self._mutex:
            if self._folder and self._release:
                self._release()
            self._folder = None

    def _make(self) -> tuple[PurePosixPath, int]:
        while True:
            folder = self._top / unique()
            with self._folders.folder(self._top, create=True) as parent:
                descriptor = self._open_lock(folder, parent)
            self._lock(folder, descriptor)
            # A cleanup may have removed it as stale before it was locked.
            if os.fstat(descriptor).st_nlink:
                return folder, descriptor
            os.close(descriptor)

    def _lock(self, folder: PurePosixPath, descriptor: int) -> None:
        try:
            self._folders.call(folder, fcntl.flock, descriptor, fcntl.LOCK_EX)
        except errors.StorageError as e:
            # Without locks no process can tell, and the files of a killed one stay.
            if e.errno not in NO_LOCKS:
                raise

    def _open_lock(self, folder: PurePosixPath, parent: int) -> int:
        path = lock_of(folder)
        descriptor = self._folders.call(
            folder, os.open, path.name, _OPEN | os.O_CREAT, 0o600, dir_fd=parent
        )
        try:
            self._folders.give(path, descriptor)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                os.unlink(path.name, dir_fd=parent)
            raise
        return descriptor


def lock_of(folder: PurePosixPath) -> PurePosixPath:
    """Return the lock file of a folder of staged files, beside it."""
    return folder.with_name(folder.name + _LOCK)


def sessions(top: PurePosixPath, names: Mapping[str, str]) -> list[PurePosixPath]:
    """Return the folders of processes in ``top``, from the names and kinds of its entries."""
    known = (n for n, kind in names.items() if kind == "folder" or n.endswith(_LOCK))
    return sorted({top / name.removesuffix(_LOCK) for name in known})


@contextlib.contextmanager
def unused(folders: Folders, folder: PurePosixPath) -> Iterator[bool]:
    """Yield whether a folder belongs to no process; none gets it during the block."""
    lock = lock_of(folder)
    try:
        with folders.folder(lock.parent) as parent:
            descriptor, how = _open_one(folders, lock, parent)
    except NotFound:
        yield True  # the lock is made before the folder and removed after it
        return
    try:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except OSError as e:
            if not isinstance(e, BlockingIOError) and e.errno not in NO_LOCKS:
                raise
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def _open_one(folders: Folders, lock: PurePosixPath, parent: int) -> tuple[int, int]:
    """Open a lock file; return its descriptor, and how it can be locked."""
    try:
        opened = folders.call(lock, os.open, lock.name, _OPEN, dir_fd=parent)
    except errors.StorageDenied:
        # NOTE: NFS has exclusive locks for files that are open to write alone.
        return folders.call(lock, os.open, lock.name, READ, dir_fd=parent), fcntl.LOCK_SH
    return opened, fcntl.LOCK_EX


def _release(root: Path, folder: PurePosixPath, descriptor: int, owner: int) -> None:
    if os.getpid() != owner:
        return
    with (
        contextlib.suppress(OSError, errors.StorageError),
        Folders(root).folder(folder.parent) as parent,
    ):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(folder.name, dir_fd=parent)
        os.unlink(lock_of(folder).name, dir_fd=parent)
    os.close(descriptor)
