# SPDX-License-Identifier: Apache-2.0
"""A directory that several threads and processes read, write, and lock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.storage import locks, mounts, staging, watch
from image_uploader_plugins.storage.folders import NO_LOCKS, NotFound
from image_uploader_plugins.storage.locks import Lock
from image_uploader_plugins.storage.mounts import Mount
from image_uploader_plugins.storage.places import Places
from image_uploader_plugins.storage.watch import Watch
from image_uploader_plugins.storage.writer import Writer


class Storage(Writer):
    """The directory ``root``, with all operations on its content.

    Only make_root() makes the root; the state folder of ``places`` is made with
    the first write. Folders explains ``owned`` and ``remedy``.
    """

    def __init__(
        self,
        root: Path,
        places: Places,
        *,
        owned: bool = False,
        remedy: str = "",
        beside: Writer | None = None,
    ) -> None:
        super().__init__(root, places, owned=owned, remedy=remedy, beside=beside)
        self._locks = locks.Locks(self, places)

    @property
    def is_hidden(self) -> bool:
        """Return whether the private state is there, and not to be seen by this process."""
        return False

    def claim(self, content: PurePosixPath, *, one_writer: bool = False, remedy: str = "") -> None:
        """Raise StorageDenied where this process must not write.

        It must not write where it cannot give its files to the root's owner.
        Unless there is only ``one_writer`` at a time, it must not write either
        where another machine could write to the root, or to the folder
        ``content``, without seeing our locks; that error ends with ``remedy``.
        """
        reason = None if one_writer else self._unshared_locks(content)
        if reason:
            raise self._unclaimed(reason, remedy)
        self._claim_ownership()
        if self._have_locks():
            self._locks.must_hold = True
        elif not one_writer:
            raise self._unclaimed(f"locks do not hold in {self.places.locks}", remedy)

    def _claim_ownership(self) -> None:
        if self.is_foreign(os.geteuid()):
            path = self._staging.new()
            try:
                self.touch(path)
            finally:
                self.discard(path)
                self.close()

    def _have_locks(self) -> bool:
        try:
            return self.locks_exclude()
        except errors.StorageFull:
            return True  # a full disk must not prevent a delete
        except errors.StorageError as e:
            if e.errno not in NO_LOCKS:
                raise
            return False

    def _unclaimed(self, reason: str, remedy: str) -> errors.StorageDenied:
        words = "; ".join(filter(None, (f"is not written to: {reason}", remedy)))
        return errors.StorageDenied(self.root, words)

    def _unshared_locks(self, content: PurePosixPath) -> str | None:
        table = mounts.read()
        root, top, state, locks = (
            self._mounted(path, table)
            for path in (PurePosixPath(), content, self.places.state, self.places.locks)
        )
        inside = mounts.below(table, self.root.resolve() / content)
        holding = locks or state or root
        written = filter(None, (root, top, *inside))
        return mounts.unshared(holding, written) if holding else None

    def _mounted(self, path: PurePosixPath, table: Sequence[Mount]) -> Mount | None:
        """Return the mount that a folder is on; None if there is no folder, or it is not known."""
        try:
            with self.folder(path) as folder:
                return mounts.mount_of(table, folder)
        except NotFound:
            return None

    def watch(self, folders: Sequence[PurePosixPath]) -> Watch | None:
        """Return a watch on folders; None where one is missing, or changes could go unnoticed."""
        with contextlib.ExitStack() as stack, contextlib.suppress(NotFound):
            return watch.watch([stack.enter_context(self.folder(path)) for path in folders])
        return None

    def close(self) -> None:
        """Remove this process's folder of temporary files; the next write makes a new one."""
        self._staging.close()
        self._locks.close()

    # -- temporary files of others

    def staged_by_others(self) -> list[PurePosixPath]:
        """Return the entries of the staging folder that belong to no running process."""
        found = []
        for path in staging.sessions(self.places.staging, self.names(self.places.staging)):
            with staging.unused(self, path) as stale:
                found += [path] if stale else []
        return found

    def remove_staged(self, path: PurePosixPath) -> None:
        """Remove an entry of staged_by_others(), unless a process uses it after all."""
        with staging.unused(self, path) as stale:
            if stale:
                self.remove_tree(path)
                self.unlink(staging.lock_of(path))

    # -- locks

    def lock(self, name: str) -> contextlib.AbstractContextManager[Lock]:
        """Lock ``name`` for a block: one holder at a time, among all threads and processes."""
        return self._locks.lock(name)

    def try_lock(
        self, name: str, *, transient: bool = False
    ) -> contextlib.AbstractContextManager[Lock | None]:
        """Lock without waiting; yield None where there is another holder.

        The file of a ``transient`` lock is removed when it is released.
        """
        return self._locks.try_lock(name, transient=transient)

    def forget_lock(self, name: str) -> None:
        """Have the file of a lock that this process holds removed when it is released."""
        self._locks.forget(name)

    def lock_progress(self, name: str) -> int:
        """Return the bytes that the holder of ``name`` told by Lock.tell(); 0 without one."""
        return self._locks.progress(name)

    def locks_exclude(self) -> bool:
        """Return whether a lock excludes others, at least on this machine.

        Raises StorageError where the file system has no locks.
        """
        return self._locks.exclude()

    def remove_unused_locks(self, kept: Iterable[str]) -> None:
        """Remove the files of locks that nobody holds, except the names in ``kept``."""
        self._locks.remove_unused(kept)
