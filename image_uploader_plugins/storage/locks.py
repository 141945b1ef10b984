# SPDX-License-Identifier: Apache-2.0
"""Locks among threads and processes."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar, cast

from image_uploader_plugins import errors
from image_uploader_plugins.storage import fork
from image_uploader_plugins.storage.beneath import READ
from image_uploader_plugins.storage.folders import NO_LOCKS, Folders, NotFound, mapped, split
from image_uploader_plugins.storage.places import Places
from image_uploader_plugins.storage.unique import unique

_Found = TypeVar("_Found", bound="Lock | None")

# NOTE: O_NONBLOCK, since opening a FIFO would wait for somebody at its other end.
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOT_HELD = -1
_UNIT = 1024  # bytes of progress for each byte of a lock file's size

# A child of fork must know every descriptor that it inherits.
_opening = threading.Lock()
os.register_at_fork(
    before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_opening.release
)


class Lock:
    """A lock that is held.

    Its file stays for the next holder, unless it is ``transient``: then it is
    removed with the lock. Without a ``descriptor`` it could not be taken, and
    keeps nobody out.
    """

    def __init__(self, descriptor: int = -1, *, transient: bool = False) -> None:
        self.descriptor = descriptor
        self.transient = transient

    @property
    def is_held(self) -> bool:
        """Return whether it keeps others out."""
        return self.descriptor >= 0

    def tell(self, progress: int) -> None:
        """Show waiting processes the progress in bytes of the work that the lock is held for."""
        with contextlib.suppress(OSError):  # waiting processes learn less, and nothing else is lost
            # With a second name, the file may be used for something else.
            if os.fstat(self.descriptor).st_nlink <= 1:
                os.ftruncate(self.descriptor, progress // _UNIT)


class _Kept:
    """A folder that is open as long as somebody uses it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class Locks:
    """The locks below a root, the same by whichever path the root is reached.

    Each lock is a file, which every holder opens anew and locks by flock(2).
    Such a lock belongs to the open file and so holds among threads as well. The
    holder of a lock removes its file. A process that gets the lock of a file
    that is gone, or no longer the one of that name, tries again.

    The folder of the files is opened once. Whether it is still the one of its
    path, each lock that is taken shows.

    Where the file system has no locks they hold among the threads of this
    process alone, unless they ``must_hold``.
    """

    def __init__(self, folders: Folders, places: Places) -> None:
        self._folders = folders
        self._top = str(places.locks)
        self._open: set[int] = set()
        self._held: dict[str, Lock] = {}
        self._kept: _Kept | None = None
        self.must_hold = False
        fork.in_child(self, Locks._abandon)

    def _abandon(self) -> None:
        # NOTE: an open file is shared with the parent: unlocked here it would be unlocked there,
        # and left open here it would stay locked when the parent is killed.
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()
        self._held.clear()

    def close(self) -> None:
        """Close the folder of the files; the next lock opens it again."""
        self._kept = None

    def lock(self, name: str) -> contextlib.AbstractContextManager[Lock]:
        """Hold ``name`` for a block; wait for it without a limit."""
        return _Taking[Lock](self, name, wait)

    def try_lock(
        self, name: str, *, transient: bool = False
    ) -> contextlib.AbstractContextManager[Lock | None]:
        """Hold ``name`` for a block; yield None where another holder has it.

        The file of a ``transient`` lock is removed when it is released.
        """
        return _Taking[Lock | None](self, name, take, transient=transient)

    @contextlib.contextmanager
    def shared(self, name: str, *, waiting: bool = True) -> Iterator[Lock | None]:
        """Keep those out of a block who hold ``name`` alone; make nothing for that.

        Yields a lock that is not held where there is nothing to lock, or where
        this process may not read it; None where there is another holder, unless
        it is ``waiting``.
        """
        descriptor = self._shared(self._path(name), share if waiting else try_to_share)
        try:
            yield None if descriptor is None else Lock(descriptor)
        finally:
            if descriptor is not None and descriptor >= 0:
                self._close(descriptor)

    def _shared(self, path: str, how: Callable[[int], bool]) -> int | None:
        """Return a descriptor of the locked file; -1 for none, None for one of another process."""
        while True:
            try:
                with self._folders.folder_of(path) as folder:
                    descriptor = self._open_to_read(path, folder)
                    locked = self._is_shared(path, how, descriptor)
                    current = locked and self._is_current(path, os.fstat(descriptor))
            except (errors.StorageDenied, NotFound):
                return _NOT_HELD
            if current:
                return descriptor
            self._close(descriptor)
            if locked is None:
                return _NOT_HELD
            if not locked:
                return None

    def _open_to_read(self, path: str, folder: int) -> int:
        with _opening:
            where = functools.partial(self._folders.root.joinpath, path)
            descriptor = mapped(where, os.open, split(path)[1], READ, dir_fd=folder)
            self._open.add(descriptor)
        return descriptor

    def _is_shared(self, path: str, how: Callable[[int], bool], descriptor: int) -> bool | None:
        """Return whether a file was locked; None where the file system has no locks."""
        try:
            return mapped(functools.partial(self._folders.root.joinpath, path), how, descriptor)
        except errors.StorageError as e:
            if e.errno in NO_LOCKS:
                return None
            self._close(descriptor)
            raise
        except BaseException:
            self._close(descriptor)
            raise

    def forget(self, name: str) -> None:
        """Have the file of ``name`` removed when the lock, which this object holds, is released."""
        self._held[name].transient = True

    def progress(self, name: str) -> int:
        """Return the bytes that the holder of ``name`` told, in steps of 1024; 0 without one."""
        path = self._path(name)
        try:
            with self._folders.folder_of(path) as folder:
                return os.stat(split(path)[1], dir_fd=folder, follow_symlinks=False).st_size * _UNIT
        except (OSError, errors.StorageError):
            return 0  # it has just been released

    def exclude(self) -> bool:
        """Return whether only one of two open files of one name can be locked.

        Raises StorageError where the file system has no locks at all.
        """
        path = self._path(f"trial {unique()}")
        descriptors: list[int] = []
        folder = self._folder()
        try:
            for _ in range(2):
                descriptors.append(self._open_file(path, folder.descriptor, is_new=True))
            return [self._folders.call(path, take, d) for d in descriptors] == [True, False]
        finally:
            try:
                remove_file(path, folder.descriptor)
            finally:
                for descriptor in descriptors:
                    self._close(descriptor)

    def remove_unused(self, kept: Iterable[str]) -> None:
        """Remove the files of locks that nobody holds, except the names in ``kept``."""
        spared = {split(self._path(name))[1] for name in kept}
        folder = self._folder()
        with mapped(self._folders.root / self._top, os.scandir, folder.descriptor) as entries:
            names = {entry.name for entry in entries}
        for name in sorted(names - spared):
            with contextlib.suppress(errors.StorageError):
                self._remove_unused(f"{self._top}/{name}", folder.descriptor)

    def _remove_unused(self, path: str, folder: int) -> None:
        descriptor = self._open_file(path, folder)
        try:
            self._remove_unheld(path, folder, descriptor)
        finally:
            self._close(descriptor)

    def _folder(self) -> _Kept:
        """Return the folder of the files; make it where it is missing."""
        kept = self._kept
        if kept is None or not os.fstat(kept.descriptor).st_nlink:
            with self._folders.folder(self._top, create=True) as folder:
                kept = self._kept = _Kept(os.dup(folder))
        return kept

    def taken(self, name: str, how: Callable[[int], bool], *, transient: bool) -> Lock | None:
        """Take a lock; return None where another holder has it, unless ``how`` waits for that."""
        descriptor = self._lock_file(self._path(name), how, is_new=transient)
        if descriptor is None:
            return None
        lock = self._held[name] = Lock(descriptor, transient=transient)
        self._folders.lock_taken()
        return lock

    def release(self, name: str, lock: Lock) -> None:
        """Release a lock that taken() returned."""
        self._folders.lock_released()
        # In a child of fork it is the parent's.
        if self._held.get(name) is not lock:
            return
        del self._held[name]
        try:
            if lock.transient:
                with contextlib.suppress(errors.StorageError):
                    # Open as long as this has it, whoever gives it up meanwhile.
                    folder = self._kept or self._folder()
                    remove_file(self._path(name), folder.descriptor)
        finally:
            self._close(lock.descriptor)

    def _lock_file(self, path: str, how: Callable[[int], bool], *, is_new: bool) -> int | None:
        """Return a descriptor of the locked file; None where another process has the lock."""
        while True:
            folder = self._kept or self._folder()
            try:
                descriptor = self._open_file(path, folder.descriptor, is_new=is_new)
            except NotFound:
                # Nothing can be made in a folder that is removed.
                if self._folder() is folder:
                    raise
                continue
            try:
                status = self._status(path, descriptor)
                locked = self._try(path, how, descriptor)
                current = locked and self._is_current(path, status)
            except BaseException:
                self._close(descriptor)
                raise
            if current:
                return descriptor
            self._close(descriptor)
            if not locked:
                return None
            self._kept = None  # its path may be that of another folder by now

    def _status(self, path: str, descriptor: int) -> os.stat_result:
        """Return the status of an open lock file; raise StorageError for what is no file."""
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise errors.StorageError(self._folders.root / path, "is no file")
        return status

    def _is_current(self, path: str, status: os.stat_result) -> bool:
        """Return whether an open lock file is still the one that others find by its whole path."""
        where = functools.partial(self._folders.root.joinpath, path)
        try:
            # To make a path takes longer than to look there, and each lock needs that.
            found = mapped(
                where, os.stat, f"{self._folders.root_text}/{path}", follow_symlinks=False
            )
        except NotFound:
            return False
        return os.path.samestat(status, found)

    def _remove_unheld(self, path: str, folder: int, descriptor: int) -> None:
        status = self._status(path, descriptor)
        # By now the name may be that of another file, which somebody holds.
        if take(descriptor) and self._is_current(path, status):
            remove_file(path, folder)

    def _try(self, path: str, how: Callable[[int], bool], descriptor: int) -> bool:
        try:
            if how is not wait:
                return self._folders.call(path, how, descriptor)
            return self._folders.call(path, take, descriptor) or self._wait(path, descriptor)
        except errors.StorageError as e:
            if self.must_hold or e.errno not in NO_LOCKS:
                raise
        with self._folders.alone.waiting():
            return _taken_here(self._folders.root / path, descriptor, waiting=how is wait)

    def _wait(self, path: str, descriptor: int) -> bool:
        with self._folders.alone.waiting():
            return self._folders.call(path, wait, descriptor)

    def _open_file(self, path: str, folder: int, *, is_new: bool = False) -> int:
        with _opening:
            where = functools.partial(self._folders.root.joinpath, path)
            descriptor, made = mapped(where, _open_or_make, split(path)[1], folder, is_new=is_new)
            self._open.add(descriptor)
        try:
            if made:
                self._folders.give(path, descriptor)
        except BaseException:
            try:
                self._remove_unheld(path, folder, descriptor)
            finally:
                self._close(descriptor)
            raise
        return descriptor

    def _close(self, descriptor: int) -> None:
        # NOTE: a child that was just forked has the file open, too, and closing it here alone
        # would not unlock it.
        _give_back(descriptor)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        self._open.discard(descriptor)
        os.close(descriptor)

    def _path(self, name: str) -> str:
        return _file(self._top, name)


class _Taking(Generic[_Found]):
    """A block with a lock, or with what there is instead of one."""

    def __init__(
        self, locks: Locks, name: str, how: Callable[[int], bool], *, transient: bool = False
    ) -> None:
        self._locks = locks
        self._name = name
        self._how = how
        self._transient = transient
        self._lock: Lock | None = None

    def __enter__(self) -> _Found:
        self._lock = self._locks.taken(self._name, self._how, transient=self._transient)
        return cast(_Found, self._lock)

    def __exit__(self, *_: object) -> None:
        if self._lock:
            self._locks.release(self._name, self._lock)


@functools.lru_cache(maxsize=1024)
def _file(folder: str, name: str) -> str:
    # Any name makes a file name: "a/b" and "a_b" must not meet.
    return f"{folder}/{hashlib.sha256(name.encode()).hexdigest()}"


# Held by threads of this process where the file system has no locks, by path.
_here: dict[Path, int] = {}
_changed = threading.Condition()
os.register_at_fork(after_in_child=_here.clear)


def _taken_here(path: Path, descriptor: int, *, waiting: bool) -> bool:
    with _changed:
        while waiting and path in _here:
            _changed.wait()
        return _here.setdefault(path, descriptor) == descriptor


def _give_back(descriptor: int) -> None:
    if not _here:  # as it is for nearly all file systems
        return
    with _changed:
        for path in [path for path, held in _here.items() if held == descriptor]:
            del _here[path]
        _changed.notify_all()


def _open_or_make(name: str, folder: int, *, is_new: bool) -> tuple[int, bool]:
    """Open a lock file, which most likely ``is_new``; return its descriptor, and whether it is."""
    while True:
        if not is_new:
            with contextlib.suppress(FileNotFoundError):
                return os.open(name, _OPEN, dir_fd=folder), False
        with contextlib.suppress(FileExistsError):
            return os.open(name, _OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder), True
        is_new = False


def remove_file(path: str, folder: int) -> None:
    """Remove a lock file from an open folder; ignore errors."""
    # A file that cannot be removed does no harm.
    with contextlib.suppress(OSError):
        os.unlink(split(path)[1], dir_fd=folder)


def take(descriptor: int) -> bool:
    """Lock an open file; return False where that would mean waiting."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait(descriptor: int) -> bool:
    """Lock an open file; wait without a limit."""
    block(descriptor)
    return True


def share(descriptor: int) -> bool:
    """Lock an open file, together with others who share it; wait without a limit."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return True


def try_to_share(descriptor: int) -> bool:
    """Lock an open file, together with others who share it; return False instead of waiting."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def block(descriptor: int) -> None:
    """Lock an open file; an exception of a signal's handler ends the wait."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
