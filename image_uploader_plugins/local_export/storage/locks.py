"""Locks that hold among threads and processes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator

from oslo_concurrency import lockutils

from image_uploader_plugins import errors
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.storage.ground import Ground

_semaphores: dict[tuple[int, int], lockutils.Semaphores] = {}


def _forget_semaphores() -> None:
    # A child of fork would inherit as locked what another thread held.
    _semaphores.clear()


os.register_at_fork(after_in_child=_forget_semaphores)


class Locks:
    """The locks of the tree at ``ground``, by whichever path its root is reached.

    NOTE: lockf alone lets two threads of one process in; lockutils adds a
    semaphore, of which each tree has its own.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        # Any name makes a file name: "a/b" and "a_b" must not meet.
        key = hashlib.sha256(name.encode()).hexdigest()
        with self._ground.folder(layout.LOCKS, create=True) as folder:
            status = os.fstat(folder)
            if _is_foreign(key, folder):
                raise errors.StorageError(
                    self._ground.root / layout.LOCKS / key, "is a symbolic link, or no file"
                )
            self._make(key, folder)
        # NOTE: one step, or of two threads each would get its own.
        tree = (status.st_dev, status.st_ino)
        semaphores = _semaphores.setdefault(tree, lockutils.Semaphores())
        path = self._ground.root / layout.LOCKS
        lock = lockutils.lock(key, external=True, lock_path=str(path), semaphores=semaphores)
        with contextlib.ExitStack() as stack:
            self._ground.call(layout.LOCKS / key, stack.enter_context, lock)
            yield

    def _make(self, key: str, folder: int) -> None:
        """Have a lock file that is missing belong to the root's owner."""
        if not self._ground.is_foreign(os.geteuid()):
            return
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(key, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
            try:
                self._ground.give(layout.LOCKS / key, descriptor)
            finally:
                os.close(descriptor)


def _is_foreign(name: str, folder: int) -> bool:
    # Opening a link would write elsewhere, opening a FIFO would never end.
    try:
        return not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
