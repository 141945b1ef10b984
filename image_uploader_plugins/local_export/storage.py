"""Where bytes become visible; the only module that touches the disk.

Everything published goes one way: a private temporary file in the tree's own
state directory, write, set mode, fsync, rename into place, fsync the
directory.  Every system call that changes something passes through
Storage.call, so each is one point at which tests can fail it.

Paths are relative to the root and are walked folder by folder without
following symbolic links, so none leads out of the tree.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import ParamSpec, TypeVar

from oslo_concurrency import lockutils

from image_uploader_plugins import errors
from image_uploader_plugins.local_export import layout

_P = ParamSpec("_P")
_T = TypeVar("_T")

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755
_PRIVATE_MODE = 0o700
_CHUNK = 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# NOTE: EPERM is what file systems without hard links and fs.protected_hardlinks answer.
_LINK_REFUSED = (errno.EXDEV, errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
_REMOVED_MEANWHILE_TRIES = 100

_semaphores = lockutils.Semaphores()


def _forget_semaphores() -> None:
    # A child of fork would inherit as locked what another thread held.
    global _semaphores
    _semaphores = lockutils.Semaphores()


os.register_at_fork(after_in_child=_forget_semaphores)


class NotFound(errors.StorageError):
    """Nothing of that name."""


@dataclasses.dataclass(frozen=True)
class Staged:
    """A complete and durable temporary file that nobody sees yet; size in bytes."""

    path: PurePosixPath
    size: int
    gzip: bool


@dataclasses.dataclass(frozen=True)
class File:
    """What lstat says of a regular file; size in bytes."""

    path: PurePosixPath
    size: int
    links: int
    inode: tuple[int, int]
    modified: float


class Storage:
    """The file system below ``root``, which is created where it is missing.

    Raises StorageFull, StorageDenied or another StorageError with the path
    in it; NotFound where something that must be there is not.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[tuple[int, int]] = set()
        _mapped(root, _make_root, root)

    # -- reading

    def read(self, path: PurePosixPath, limit: int = 64 * _CHUNK) -> bytes:
        """A whole file, of up to ``limit`` bytes."""
        content = b"".join(self.chunks(path, limit))
        if len(content) > limit:
            raise errors.StorageError(self.root / path, f"has more than {limit} bytes")
        return content

    def chunks(self, path: PurePosixPath, limit: int | None = None) -> Iterator[bytes]:
        """A file piece by piece, ending soon after ``limit`` bytes."""
        with self._folder(path.parent) as folder:
            descriptor = self.call(
                path, os.open, path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
            )
        try:
            size = 0
            while limit is None or size <= limit:
                chunk = self.call(path, os.read, descriptor, _CHUNK)
                if not chunk:
                    return
                size += len(chunk)
                yield chunk
        finally:
            os.close(descriptor)

    def file(self, path: PurePosixPath) -> File | None:
        """The regular file at ``path``, if there is one."""
        try:
            with self._folder(path.parent) as folder:
                status = self.call(path, os.stat, path.name, dir_fd=folder, follow_symlinks=False)
        except NotFound:
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        inode = (status.st_dev, status.st_ino)
        return File(path, status.st_size, status.st_nlink, inode, status.st_mtime)

    def names(self, path: PurePosixPath) -> dict[str, str]:
        """What a folder holds: names to "file", "folder", "link" or "other"; maybe nothing."""
        try:
            with self._folder(path) as folder, self.call(path, os.scandir, folder) as entries:
                return {entry.name: _kind(entry) for entry in entries}
        except NotFound:
            return {}

    def link_target(self, path: PurePosixPath) -> str | None:
        """Where the symbolic link at ``path`` leads; None if there is no link."""
        try:
            with self._folder(path.parent) as folder:
                return self.call(path, os.readlink, path.name, dir_fd=folder)
        except NotFound:
            return None
        except errors.StorageError as e:
            if _errno(e) == errno.EINVAL:
                return None
            raise

    # -- writing

    def stage(self, chunks: Iterable[bytes]) -> Staged:
        """Write a temporary file and make it durable; errors of ``chunks`` pass unchanged."""
        path = layout.STAGING / uuid.uuid4().hex
        try:
            with self._folder(path.parent, create=True) as folder:
                return self._write(folder, path, chunks)
        except BaseException:
            self.discard(path)
            raise

    def _write(self, folder: int, path: PurePosixPath, chunks: Iterable[bytes]) -> Staged:
        descriptor = self.call(path, os.open, path.name, _CREATE, 0o600, dir_fd=folder)
        try:
            size, head = 0, b""
            for chunk in chunks:
                head = (head + chunk[:2])[:2]
                self._write_all(path, descriptor, chunk)
                size += len(chunk)
            self.call(path, os.fchmod, descriptor, _FILE_MODE)
            self.call(path, os.fsync, descriptor)
        finally:
            os.close(descriptor)
        return Staged(path, size, head == _GZIP_MAGIC)

    def _write_all(self, path: PurePosixPath, descriptor: int, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[self.call(path, os.write, descriptor, rest) :]

    def publish(self, staged: PurePosixPath, path: PurePosixPath) -> None:
        """Move a temporary file or link to ``path``, over what is there."""
        with (
            self._folder(staged.parent) as source,
            self._folder(path.parent, create=True) as target,
        ):
            try:
                self._rename(staged, source, path, target)
            except errors.StorageError as e:
                if _errno(e) != errno.EXDEV:
                    raise
                self._publish_across(staged, source, path, target)
            self.call(path, os.fsync, target)
        self.discard(staged)

    def _rename(self, staged: PurePosixPath, source: int, path: PurePosixPath, target: int) -> None:
        self.call(path, os.rename, staged.name, path.name, src_dir_fd=source, dst_dir_fd=target)

    def _publish_across(
        self, staged: PurePosixPath, source: int, path: PurePosixPath, target: int
    ) -> None:
        """Publish on another file system than the state directory's."""
        beside = path.with_name(f".{staged.name}")
        try:
            link = self.link_target(staged)
            if link is None:
                self._write(target, beside, self.chunks(staged))
            else:
                self.call(beside, os.symlink, link, beside.name, dir_fd=target)
            self._rename(beside, target, path, target)
        finally:
            self._unlink(beside, target)

    def write(self, path: PurePosixPath, content: bytes) -> bool:
        """Make ``path`` hold ``content``; False where it does already."""
        file = self.file(path)
        if file and file.size == len(content) and self.read(path) == content:
            return False
        self.publish(self.stage([content]).path, path)
        return True

    def link(self, source: PurePosixPath, path: PurePosixPath) -> None:
        """Make ``path`` the same file as ``source``; a copy where links are refused."""
        self.publish(self.stage_link(source), path)

    def stage_link(self, source: PurePosixPath) -> PurePosixPath:
        """A temporary name for the file ``source`` that outlives it."""
        staged = layout.STAGING / uuid.uuid4().hex
        try:
            with (
                self._folder(source.parent) as origin,
                self._folder(staged.parent, create=True) as folder,
            ):
                self.call(
                    source,
                    os.link,
                    source.name,
                    staged.name,
                    src_dir_fd=origin,
                    dst_dir_fd=folder,
                    follow_symlinks=False,
                )
        except errors.StorageError as e:
            if _errno(e) not in _LINK_REFUSED:
                raise
            return self.stage(self.chunks(source)).path
        return staged

    def symlink(self, path: PurePosixPath, target: str) -> bool:
        """Make ``path`` a symbolic link to ``target``; False where it is one already."""
        if self.link_target(path) == target:
            return False
        staged = layout.STAGING / uuid.uuid4().hex
        with self._folder(staged.parent, create=True) as folder:
            self.call(path, os.symlink, target, staged.name, dir_fd=folder)
        self.publish(staged, path)
        return True

    def touch(self, path: PurePosixPath) -> None:
        """Create an empty file, with nothing said of its durability."""
        with self._folder(path.parent, create=True) as folder:
            os.close(self.call(path, os.open, path.name, _CREATE, 0o600, dir_fd=folder))

    # -- removing

    def unlink(self, path: PurePosixPath, *, durable: bool = False) -> bool:
        """Remove a file or link; False where there is none."""
        try:
            with self._folder(path.parent) as folder:
                removed = self._unlink(path, folder)
                if durable:
                    self.call(path, os.fsync, folder)
        except NotFound:
            return False
        return removed

    def discard(self, staged: PurePosixPath) -> None:
        """Remove a temporary file, which may be gone."""
        with contextlib.suppress(errors.StorageError):
            self.unlink(staged)

    def _unlink(self, path: PurePosixPath, folder: int) -> bool:
        try:
            self.call(path, os.unlink, path.name, dir_fd=folder)
        except NotFound:
            return False
        return True

    def remove_empty(self, path: PurePosixPath) -> bool:
        """Remove a folder unless something is in it."""
        try:
            with self._folder(path.parent) as folder:
                self.call(path, os.rmdir, path.name, dir_fd=folder)
        except NotFound:
            return True
        except errors.StorageError as e:
            if _errno(e) in (errno.ENOTEMPTY, errno.EEXIST):
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

    # -- locks

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """One holder of ``name`` at a time, among all threads and processes on this root.

        NOTE: lockf alone lets two threads of one process in; lockutils adds
        a semaphore, which is why the name must tell roots apart.
        """
        with self._folder(layout.LOCKS, create=True):
            pass
        key = hashlib.sha256(f"{self.root}\0{name}".encode()).hexdigest()
        if self.link_target(layout.LOCKS / key) is not None:
            raise errors.StorageError(self.root / layout.LOCKS / key, "is a symbolic link")
        folder = str(self.root / layout.LOCKS)
        lock = lockutils.lock(key, external=True, lock_path=folder, semaphores=_semaphores)
        with contextlib.ExitStack() as stack:
            _mapped(self.root / layout.LOCKS / key, stack.enter_context, lock)
            yield

    # -- the ground

    def call(
        self,
        path: PurePosixPath,
        function: Callable[_P, _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """One system call on ``path``, its OSError turned into a StorageError."""
        return _mapped(self.root / path, function, *args, **kwargs)

    @contextlib.contextmanager
    def _folder(self, path: PurePosixPath, *, create: bool = False) -> Iterator[int]:
        descriptor = self._walk(path) if not create else self._walk_creating(path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _walk_creating(self, path: PurePosixPath) -> int:
        # A delete may remove an empty folder between our making it and entering it.
        for _ in range(_REMOVED_MEANWHILE_TRIES):
            with contextlib.suppress(NotFound):
                return self._walk(path, self._enter_creating)
        raise errors.StorageError(self.root / path, "keeps disappearing")

    def _walk(
        self, path: PurePosixPath, enter: Callable[[int, PurePosixPath], int] | None = None
    ) -> int:
        enter = enter or self._enter
        # The root itself may be a link: that is the administrator's choice.
        here = self.call(PurePosixPath(), os.open, str(self.root), os.O_RDONLY | os.O_DIRECTORY)
        walked = PurePosixPath()
        for part in path.parts:
            walked /= part
            try:
                child = enter(here, walked)
            finally:
                os.close(here)
            here = child
        return here

    def _enter(self, parent: int, path: PurePosixPath) -> int:
        return self.call(path, os.open, path.name, _OPEN_FOLDER, dir_fd=parent)

    def _enter_creating(self, parent: int, path: PurePosixPath) -> int:
        mode = _PRIVATE_MODE if path.parts[0] == layout.STATE.name else _FOLDER_MODE
        made = False
        try:
            child = self._enter(parent, path)
        except NotFound:
            made = True
            self.call(path, _make_folder, path.name, mode, parent)
            child = self._enter(parent, path)
        try:
            self._settle(parent, child, path, mode, made)
        except BaseException:
            os.close(child)
            raise
        return child

    def _settle(self, parent: int, child: int, path: PurePosixPath, mode: int, made: bool) -> None:
        """Make a folder's mode right and its name durable, whoever made it."""
        status = self.call(path, os.fstat, child)
        if status.st_mode & mode != mode:
            self.call(path, os.fchmod, child, mode)
        identity = (status.st_dev, status.st_ino)
        if made or identity not in self._durable:
            self.call(path, os.fsync, parent)
            self._durable.add(identity)


def _make_root(root: Path) -> None:
    """Make what is missing of the way to the root; what exists keeps its mode."""
    for folder in reversed([root, *root.parents]):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(_FOLDER_MODE)


def _make_folder(name: str, mode: int, parent: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=parent)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "folder"
    return "file" if entry.is_file(follow_symlinks=False) else "other"


def _mapped(path: Path, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    try:
        return function(*args, **kwargs)
    except OSError as e:
        raise _translate(path, e) from e


def _translate(path: Path, error: OSError) -> errors.StorageError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno == errno.ENOENT:
        return NotFound(path, reason)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return errors.StorageFull(path, reason)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return errors.StorageDenied(path, reason)
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return errors.StorageError(path, "a symbolic link or a file where neither may be")
    return errors.StorageError(path, reason)


def _errno(error: errors.StorageError) -> int | None:
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None
