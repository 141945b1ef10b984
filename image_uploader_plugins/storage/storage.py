"""Reading, publishing and removing files of a tree."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import os
import stat
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Self, TypeVar

from image_uploader_plugins import errors
from image_uploader_plugins.storage import fork, locks, mounts, staging
from image_uploader_plugins.storage.folders import (
    FILE_MODE,
    NO_LOCKS,
    READ,
    Folders,
    NotFound,
    sync_all,
)
from image_uploader_plugins.storage.locks import Lock
from image_uploader_plugins.storage.mounts import Mount
from image_uploader_plugins.storage.places import Places, beside

_T = TypeVar("_T")

_CHUNK = 1024 * 1024
_AT_ONCE = 64
_GZIP_MAGIC = b"\x1f\x8b"
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# NOTE: ext4 has it in its root, closed to all but root; no name in a tree has a plus.
_FOUND_BY_FSCK = "lost+found"
# NOTE: EPERM is what file systems without hard links and fs.protected_hardlinks answer.
_LINK_REFUSED = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


@dataclasses.dataclass(frozen=True)
class Staged:
    """A complete and durable temporary file that nobody sees yet; size in bytes."""

    path: PurePosixPath
    size: int
    gzip: bool

    @classmethod
    def of(cls, path: PurePosixPath, size: int, head: bytes) -> Self:
        """Return one whose first two bytes are ``head``."""
        return cls(path, size, head == _GZIP_MAGIC)


@dataclasses.dataclass(frozen=True)
class File:
    """What lstat says of a name.

    ``kind`` is "file", "folder", "link" or "other", ``size`` in bytes,
    ``mode`` the permission bits, ``modified_ns`` when it was written, in
    nanoseconds since the epoch, ``uid`` the user whom it belongs to.
    """

    path: PurePosixPath
    kind: str
    size: int
    links: int
    inode: tuple[int, int]
    mode: int
    modified_ns: int
    uid: int

    @property
    def modified(self) -> float:
        """When it was written, in seconds since the epoch."""
        return self.modified_ns / 1e9


class Storage(Folders):
    """The file system below ``root``, which is created where it is missing.

    Where it is ``owned``, all that is made belongs to whom the root belongs.

    Raises StorageFull, StorageDenied or another StorageError with the path
    in it; NotFound where something that must be there is not.
    """

    def __init__(
        self, root: Path, places: Places, *, owned: bool = False, remedy: str = ""
    ) -> None:
        super().__init__(root, places, owned=owned, remedy=remedy)
        self.places = places
        self._staging = staging.Staging(self, places)
        self._locks = locks.Locks(self, places)
        self._unsynced: set[PurePosixPath] = set()
        self._refusing: dict[int, bool] = {}
        self._renew()
        fork.in_child(self, Storage._renew)

    def _renew(self) -> None:
        self._syncing = threading.Lock()

    def claim(self, content: PurePosixPath, *, one_writer: bool = False, remedy: str = "") -> None:
        """Raise StorageDenied where this process must not write.

        That is where what it writes cannot belong to the root's owner and,
        unless there is ``one_writer`` at a time, where other machines could
        write to the root or the folder ``content`` without seeing our locks.
        ``remedy`` ends what is said of locks: what to do.
        """
        reason = None if one_writer else self._unshared_locks(content)
        if reason:
            raise self._unclaimed(reason, remedy)
        self._claim_ownership()
        if self._have_locks():
            self._locks.must_hold = True
        elif not one_writer:
            raise self._unclaimed(f"locks do not hold in {self.places.locks}", remedy)

    def _unclaimed(self, reason: str, remedy: str) -> errors.StorageDenied:
        words = "; ".join(filter(None, (f"is not written to: {reason}", remedy)))
        return errors.StorageDenied(self.root, words)

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
            return True  # whoever has no space left deletes images
        except errors.StorageError as e:
            if e.errno not in NO_LOCKS:
                raise
            return False

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
        """Where a folder is mounted; None also for one that is not there."""
        try:
            with self.folder(path) as folder:
                return mounts.mount_of(table, folder)
        except NotFound:
            return None

    def close(self) -> None:
        """Leave nothing behind; whatever is written afterwards opens it again."""
        self._staging.close()

    # -- reading

    def read(self, path: PurePosixPath, limit: int = 64 * _CHUNK) -> bytes:
        """Return a whole file, of up to ``limit`` bytes."""
        content = b"".join(self.chunks(path, limit))
        if len(content) > limit:
            raise errors.StorageError(self.root / path, f"has more than {limit} bytes")
        return content

    def chunks(self, path: PurePosixPath, limit: int | None = None) -> Iterator[bytes]:
        """Yield a file piece by piece, ending soon after ``limit`` bytes."""
        descriptor = self._open(path, stat.S_ISREG)
        try:
            size = 0
            while limit is None or size <= limit:
                chunk = self.call(path, os.read, descriptor, _CHUNK)
                if not chunk:
                    self._check_end(path, descriptor, size)
                    return
                size += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)

    def _check_end(self, path: PurePosixPath, descriptor: int, size: int) -> None:
        """Raise StorageError for a file that ended before its size: not all of it was read."""
        whole = os.fstat(descriptor).st_size
        if size < whole:
            reason = f"ended after {size} of {whole} bytes"
            raise errors.StorageError(self.root / path, reason, errno.EIO)

    def _open(self, path: PurePosixPath, fits: Callable[[int], bool]) -> int:
        """Open a file to read; ``fits`` says of a mode whether it is of the right kind."""
        if not path.name:
            return self._walk(path)
        with self.folder(path.parent) as folder:
            descriptor = self.call(path, os.open, path.name, READ, dir_fd=folder)
        if fits(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise errors.StorageError(self.root / path, "is not what belongs there")

    def status(self, path: PurePosixPath) -> File | None:
        """Return what is at ``path``, if there is anything."""
        try:
            with self.folder(path.parent) as folder:
                name = path.name or "."
                found = self.call(path, os.stat, name, dir_fd=folder, follow_symlinks=False)
        except NotFound:
            return None
        return _file(path, found)

    def file(self, path: PurePosixPath) -> File | None:
        """Return the regular file at ``path``, if there is one."""
        found = self.status(path)
        return found if found and found.kind == "file" else None

    def names(self, path: PurePosixPath) -> dict[str, str]:
        """Return what a folder holds: names to "file", "folder", "link" or "other"; maybe nothing.

        But for the folder that belongs to a file system that is mounted here.
        """
        try:
            with self.folder(path) as folder:
                return self.call(path, listing, folder)
        except NotFound:
            return {}

    def below(self, path: PurePosixPath) -> Iterator[File]:
        """Everything in a folder, at any depth, a folder before what it holds."""
        for name in sorted(self.names(path)):
            found = self.status(path / name)
            if found:
                yield found
                if found.kind == "folder":
                    yield from self.below(found.path)

    def link_target(self, path: PurePosixPath) -> str | None:
        """Where the symbolic link at ``path`` leads; None if there is no link."""
        try:
            with self.folder(path.parent) as folder:
                return self.call(path, os.readlink, path.name, dir_fd=folder)
        except NotFound:
            return None
        except errors.StorageError as e:
            if e.errno == errno.EINVAL:
                return None
            raise

    # -- writing

    def stage(self, chunks: Iterable[bytes], modified_ns: int | None = None) -> Staged:
        """Write a temporary file and make it durable; errors of ``chunks`` pass unchanged.

        ``modified_ns`` is when its content was written, if that was not now.
        """
        path = self._staging.new()
        try:
            with self.folder(path.parent, create=True) as folder:
                return self._write(folder, path, chunks, modified_ns)
        except BaseException:
            self.discard(path)
            raise

    def _write(
        self,
        folder: int,
        path: PurePosixPath,
        chunks: Iterable[bytes],
        modified_ns: int | None = None,
    ) -> Staged:
        descriptor = self.call(path, os.open, path.name, CREATE, 0o600, dir_fd=folder)
        try:
            size, head = 0, b""
            for chunk in chunks:
                head = (head + chunk[:2])[:2]
                self.write_all(path, descriptor, chunk)
                size += len(chunk)
            if modified_ns is not None:
                self.call(path, os.utime, descriptor, ns=(modified_ns, modified_ns))
            self.complete(path, descriptor)
        finally:
            os.close(descriptor)
        return Staged.of(path, size, head)

    def complete(self, path: PurePosixPath, descriptor: int) -> None:
        """Make a temporary file as everybody may read it, and durable."""
        self.give(path, descriptor)
        self.call(path, os.fchmod, descriptor, FILE_MODE)
        self.call(path, os.fsync, descriptor)

    def write_all(self, path: PurePosixPath, descriptor: int, chunk: bytes) -> None:
        """Write bytes to an open file, however many calls that takes."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[self.call(path, os.write, descriptor, rest) :]

    def publish(self, staged: PurePosixPath, path: PurePosixPath) -> None:
        """Move a temporary file or link to ``path``, over what is there, or discard it."""
        try:
            with (
                self.folder(staged.parent) as source,
                self.folder(path.parent, create=True) as target,
            ):
                self._move(staged, source, path, target)
                self.call(path, os.fsync, target)
        finally:
            self.discard(staged)

    def _move(self, staged: PurePosixPath, source: int, path: PurePosixPath, target: int) -> None:
        try:
            self._rename(staged, source, path, target)
        except errors.StorageError as e:
            if e.errno != errno.EXDEV:
                raise
            self._publish_across(staged, source, path, target)
            self.discard(staged)

    def _rename(self, staged: PurePosixPath, source: int, path: PurePosixPath, target: int) -> None:
        self.call(path, os.rename, staged.name, path.name, src_dir_fd=source, dst_dir_fd=target)

    def _publish_across(
        self, staged: PurePosixPath, source: int, path: PurePosixPath, target: int
    ) -> None:
        """Publish on another file system than the state directory's."""
        near = beside(path, staged.name)
        try:
            file = self.file(staged)
            if file:
                self._write(target, near, self.chunks(staged), file.modified_ns)
            else:
                self._symlink(self.link_target(staged) or "", near, target)
            self._rename(near, target, path, target)
        finally:
            self._unlink(near, target)

    def publish_all(self, wanted: Iterable[tuple[PurePosixPath, bytes | str]]) -> None:
        """Make files hold bytes, and symbolic links lead to targets, without looking before.

        They become visible in this order, each whole, and are durable in the
        end: much cheaper than one by one.
        """
        folders: set[PurePosixPath] = set()
        for batch in _batches(wanted):
            try:
                self._publish_batch(batch)
            except errors.StorageFull:
                # One by one: each makes room for the next, where it replaces something.
                for entry in batch:
                    self._publish_batch([entry])
            folders.update(path.parent for path, _ in batch)
        for group in _batches(sorted(folders)):
            with contextlib.ExitStack() as stack:
                opened = [stack.enter_context(self.folder(folder)) for folder in group]
                self.call(group[0], sync_all, opened)

    def _publish_batch(self, batch: list[tuple[PurePosixPath, bytes | str]]) -> None:
        staged = [self._staging.new() for _ in batch]
        try:
            self._stage_all(staged, batch)
            for temporary, (path, _) in zip(staged, batch, strict=True):
                self._show(temporary, path)
        except BaseException:
            for temporary in staged:
                self.discard(temporary)
            raise

    def _stage_all(
        self, staged: list[PurePosixPath], batch: list[tuple[PurePosixPath, bytes | str]]
    ) -> None:
        """Write temporary files and links; flushed at once."""
        with (
            contextlib.ExitStack() as files,
            self.folder(staged[0].parent, create=True) as folder,
        ):
            opened = []
            for path, (_, content) in zip(staged, batch, strict=True):
                if isinstance(content, str):
                    self._symlink(content, path, folder)
                    continue
                descriptor = self.call(path, os.open, path.name, CREATE, 0o600, dir_fd=folder)
                files.callback(os.close, descriptor)
                self.write_all(path, descriptor, content)
                self.give(path, descriptor)
                self.call(path, os.fchmod, descriptor, FILE_MODE)
                opened.append(descriptor)
            if opened:
                self.call(staged[0], sync_all, opened)

    def _show(self, staged: PurePosixPath, path: PurePosixPath) -> None:
        with (
            self.folder(staged.parent) as source,
            self.folder(path.parent, create=True) as target,
        ):
            self._move(staged, source, path, target)

    def write(self, path: PurePosixPath, content: bytes) -> bool:
        """Make ``path`` hold ``content``; False where it does already."""
        if self.holds(path, content):
            return False
        self.publish(self.stage([content]).path, path)
        return True

    def holds(self, path: PurePosixPath, content: bytes) -> bool:
        """Whether ``path`` is a file of just these bytes."""
        file = self.file(path)
        return bool(file and file.size == len(content) and self.read(path) == content)

    def link(self, source: PurePosixPath, path: PurePosixPath) -> None:
        """Make ``path`` the same file as ``source``; a copy where links are refused."""
        self.publish(self.stage_link(source), path)

    def stage_link(self, source: PurePosixPath) -> PurePosixPath:
        """Make a temporary name for the file ``source`` that outlives it."""
        linked = self.try_link(source, self)
        if linked:
            return linked
        file = self.file(source)
        return self.stage(self.chunks(source), file.modified_ns if file else None).path

    def try_link(self, source: PurePosixPath, origin: Storage) -> PurePosixPath | None:
        """Make a temporary name here for a file of ``origin``; None where links are refused."""
        staged = self._staging.new()
        with self.folder(staged.parent, create=True):
            return staged if self._link(source, origin, staged) else None

    def _link(self, source: PurePosixPath, origin: Storage, path: PurePosixPath) -> bool:
        """Give a file of ``origin`` one more name; False where links are refused."""
        try:
            with origin.folder(source.parent) as folder, self.folder(path.parent) as target:
                origin.call(
                    source,
                    os.link,
                    source.name,
                    path.name,
                    src_dir_fd=folder,
                    dst_dir_fd=target,
                    follow_symlinks=False,
                )
        except errors.StorageError as e:
            if e.errno not in _LINK_REFUSED:
                raise
            return False
        return True

    def can_link(self, source: File, target: File) -> bool:
        """Whether ``source`` could have one more name, where ``target`` is now."""
        limit = os.pathconf(self.root, "PC_LINK_MAX")
        on_one_mount = self._mount(source) == self._mount(target)
        return on_one_mount and source.links < limit and not self._is_link_refused(source)

    def _mount(self, file: File) -> tuple[int, int | None]:
        with self.folder(file.path.parent) as folder:
            return file.inode[0], mounts.mount_id(folder)

    def _is_link_refused(self, source: File) -> bool:
        """Whether the file system has no links, found out by making one that nobody sees."""
        device = source.inode[0]
        if device not in self._refusing:
            # What a process leaves there that is killed just then is removed as a stale lock.
            probe = staging.lock_of(self.places.staging / uuid.uuid4().hex)
            try:
                self._refusing[device] = not self._link(source.path, self, probe)
            except errors.StorageError:
                return False  # who may not write cannot know
            self.discard(probe)
        return self._refusing[device]

    def is_copy(self, source: File, target: File) -> bool:
        """Whether ``target`` is a copy of ``source`` that nobody has written to."""
        return (source.size, source.modified_ns) == (target.size, target.modified_ns)

    def date(self, path: PurePosixPath, modified_ns: int) -> None:
        """Say of a file when its content was written, as of a copy that is made here."""
        descriptor = self._open(path, stat.S_ISREG)
        try:
            self.call(path, os.utime, descriptor, ns=(modified_ns, modified_ns))
        finally:
            os.close(descriptor)

    def symlink(self, path: PurePosixPath, target: str) -> bool:
        """Make ``path`` a symbolic link to ``target``; False where it is one already."""
        if self.link_target(path) == target:
            return False
        staged = self._staging.new()
        try:
            with self.folder(staged.parent, create=True) as folder:
                self._symlink(target, staged, folder)
        except BaseException:
            self.discard(staged)
            raise
        self.publish(staged, path)
        return True

    def _symlink(self, target: str, path: PurePosixPath, folder: int) -> None:
        self.call(path, os.symlink, target, path.name, dir_fd=folder)
        self.give_link(path, folder)

    def touch(self, path: PurePosixPath) -> None:
        """Create an empty file, with nothing said of its durability."""
        with self.folder(path.parent, create=True) as folder:
            descriptor = self.call(path, os.open, path.name, CREATE, 0o600, dir_fd=folder)
            try:
                self.give(path, descriptor)
            finally:
                os.close(descriptor)

    def set_access(self, path: PurePosixPath) -> None:
        """Give what is at ``path`` the owner and mode that everything of its kind here has."""
        file = self.status(path)
        if file and file.kind == "link":
            with self.folder(path.parent) as folder:
                self.give_link(path, folder, made=False)
        elif file:
            self._set_access(path, folder=file.kind == "folder")

    def _set_access(self, path: PurePosixPath, *, folder: bool) -> None:
        descriptor = self._open(path, stat.S_ISDIR if folder else stat.S_ISREG)
        try:
            if self.is_foreign(os.fstat(descriptor).st_uid):
                self.give(path, descriptor, made=False)
            if folder or not self.is_private(path):
                self.call(
                    path, os.fchmod, descriptor, self.folder_mode(path) if folder else FILE_MODE
                )
        finally:
            os.close(descriptor)

    # -- removing

    def unlink(self, path: PurePosixPath, *, durable: bool = False) -> bool:
        """Remove a file or link; False where there is none."""
        try:
            with self.folder(path.parent) as folder:
                removed = self._unlink(path, folder)
                if durable:
                    self.call(path, os.fsync, folder)
                elif removed:
                    self._unsynced.add(path.parent)
        except NotFound:
            return False
        return removed

    @contextlib.contextmanager
    def discarding(self, staged: Staged) -> Iterator[None]:
        """Remove a temporary file in the end, published or not."""
        try:
            yield
        finally:
            self.discard(staged.path)

    def discard(self, staged: PurePosixPath) -> None:
        """Remove a temporary file, which may be gone."""
        with contextlib.suppress(errors.StorageError), self.folder(staged.parent) as folder:
            self._unlink(staged, folder)

    def _unlink(self, path: PurePosixPath, folder: int) -> bool:
        try:
            self.call(path, os.unlink, path.name, dir_fd=folder)
        except NotFound:
            return False
        return True

    def remove_empty(self, path: PurePosixPath) -> bool:
        """Remove a folder unless something is in it."""
        try:
            with self.folder(path.parent) as folder:
                self.call(path, os.rmdir, path.name, dir_fd=folder)
                # What is there next may be a link, and need not be as durable.
                self._unsynced.discard(path)
                self._unsynced.add(path.parent)
        except NotFound:
            return True
        except errors.StorageError as e:
            # Busy is where another file system is mounted.
            if e.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY):
                return False
            raise
        return True

    def remove_tree(self, path: PurePosixPath) -> None:
        """Remove a folder and all in it."""
        for name, kind in self.names(path).items():
            if kind == "folder":
                self.remove_tree(path / name)
            else:
                self.unlink(path / name)
        self.remove_empty(path)

    def remove(self, file: File) -> None:
        """Remove a file, a link, or a folder and all in it."""
        if file.kind == "folder":
            self.remove_tree(file.path)
        else:
            self.unlink(file.path)

    def sync_file(self, path: PurePosixPath) -> None:
        """Make a file's content durable, whoever wrote it."""
        descriptor = self._open(path, stat.S_ISREG)
        try:
            self.call(path, os.fsync, descriptor)
        finally:
            os.close(descriptor)

    def settle(self, folder: PurePosixPath) -> None:
        """Have sync() make the names in a folder durable, whoever made or removed them.

        What is found in its place is not durable yet if whoever put it there
        was killed, or failed, just then.
        """
        self._unsynced.add(folder)

    def sync(self, *folders: PurePosixPath) -> None:
        """Make durable what was removed or settled: a power loss undoes none of it.

        In these folders alone, if there are any.
        """
        # Whoever finds nothing to do may count on it only after the other is done.
        with self._syncing:
            wanted = self._unsynced.intersection(folders) if folders else self._unsynced.copy()
            for path in sorted(wanted):
                self._unsynced.discard(path)
                with contextlib.suppress(NotFound), self.folder(path) as folder:
                    self.call(path, os.fsync, folder)

    # -- temporary files of others

    def staged_by_others(self) -> list[PurePosixPath]:
        """Return what lies in the staging folder and belongs to no process that runs."""
        found = []
        for path in staging.sessions(self.places.staging, self.names(self.places.staging)):
            with staging.unused(self, path) as stale:
                found += [path] if stale else []
        return found

    def remove_staged(self, path: PurePosixPath) -> None:
        """Remove what staged_by_others() found, unless somebody uses it after all."""
        with staging.unused(self, path) as stale:
            if stale:
                self.remove_tree(path)
                self.unlink(staging.lock_of(path))

    # -- locks

    def lock(self, name: str) -> contextlib.AbstractContextManager[Lock]:
        """One holder of ``name`` at a time, among all threads and processes on this root."""
        return self._locks.lock(name)

    def try_lock(
        self, name: str, *, transient: bool = False
    ) -> contextlib.AbstractContextManager[Lock | None]:
        """Lock without waiting; the block gets None where there is another holder.

        Nothing is left of a ``transient`` lock when it is released.
        """
        return self._locks.try_lock(name, transient=transient)

    def forget_lock(self, name: str) -> None:
        """Have nothing be left of a lock, which is held here, when it is released."""
        self._locks.forget(name)

    def lock_progress(self, name: str) -> int:
        """Return the bytes that the holder of ``name`` has told of; 0 without a holder."""
        return self._locks.progress(name)

    def locks_exclude(self) -> bool:
        """Whether locks hold on this file system, among the processes of this machine.

        Raises StorageError where there are none.
        """
        return self._locks.exclude()

    def remove_unused_locks(self, kept: Iterable[str]) -> None:
        """Remove what is left of locks that nobody holds, but for these names."""
        self._locks.remove_unused(kept)


def _batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    """Few enough for each to have an open descriptor."""
    rest = iter(items)
    while batch := list(itertools.islice(rest, _AT_ONCE)):
        yield batch


def _file(path: PurePosixPath, found: os.stat_result) -> File:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    return File(
        path,
        kinds.get(stat.S_IFMT(found.st_mode), "other"),
        found.st_size,
        found.st_nlink,
        (found.st_dev, found.st_ino),
        stat.S_IMODE(found.st_mode),
        found.st_mtime_ns,
        found.st_uid,
    )


def listing(folder: int) -> dict[str, str]:
    """Return the names in an open folder, and of what kind each is."""
    with os.scandir(folder) as entries:
        return {e.name: _kind(e) for e in entries if e.name != _FOUND_BY_FSCK}


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"
