"""The ground: system calls on paths that cannot lead out of the tree, and their errors."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import ParamSpec, TypeVar

from image_uploader_plugins import errors
from image_uploader_plugins.local_export import layout

_P = ParamSpec("_P")
_T = TypeVar("_T")

FILE_MODE = 0o644
FOLDER_MODE = 0o755
PRIVATE_MODE = 0o700

# NOTE: opening a FIFO would wait for somebody to write into it.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRONG_THINGS = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
    *(errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL),
)
_REMOVED_MEANWHILE_TRIES = 100


class NotFound(errors.StorageError):
    """Nothing of that name."""


class Ground:
    """The folders below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._durable: set[tuple[int, int]] = set()

    def make_root(self) -> None:
        """Make what is missing of the way to the root; what exists keeps its mode."""
        way = [self.root, *self.root.parents]
        missing = self.call(PurePosixPath(), missing_of, way)
        # A tree is as durable as the way to it: whoever made the last folder
        # that is there may have been killed before it was.
        for folder in reversed(way[: len(missing) + 1]):
            path = PurePosixPath(folder)
            if folder in missing:
                self.call(path, make_root_folder, folder)
            self.call(path, sync_folder, folder.parent)

    def call(
        self,
        path: PurePosixPath,
        function: Callable[_P, _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """One system call on ``path``, its OSError turned into a StorageError."""
        try:
            return function(*args, **kwargs)
        except OSError as e:
            # NOTE: made for an error alone, the whole path costs nothing otherwise.
            raise _translate(self.root / path, e) from e

    @contextlib.contextmanager
    def folder(self, path: PurePosixPath, *, create: bool = False) -> Iterator[int]:
        """An open descriptor of a folder, which is made where it is missing and ``create``."""
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
        for walked in _way(path):
            try:
                child = enter(here, walked)
            finally:
                os.close(here)
            here = child
        return here

    def _enter(self, parent: int, path: PurePosixPath) -> int:
        return self.call(path, os.open, path.name, _OPEN_FOLDER, dir_fd=parent)

    def _enter_creating(self, parent: int, path: PurePosixPath) -> int:
        made = False
        try:
            child = self._enter(parent, path)
        except NotFound:
            made = True
            self.call(path, make_folder, path.name, folder_mode(path), parent)
            child = self._enter(parent, path)
        try:
            self._settle(parent, child, path, made)
        except BaseException:
            os.close(child)
            raise
        return child

    def _settle(self, parent: int, child: int, path: PurePosixPath, made: bool) -> None:
        """Make a folder's mode right and its name durable, whoever made it."""
        mode = folder_mode(path)
        status = self.call(path, os.fstat, child)
        if status.st_mode & mode != mode:
            self.call(path, os.fchmod, child, mode)
        identity = (status.st_dev, status.st_ino)
        if made or identity not in self._durable:
            self.call(path, os.fsync, parent)
            self._durable.add(identity)


def mapped(path: Path, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """The same for a path that is not in a tree."""
    try:
        return function(*args, **kwargs)
    except OSError as e:
        raise _translate(path, e) from e


@functools.lru_cache(maxsize=1024)
def _way(path: PurePosixPath) -> tuple[PurePosixPath, ...]:
    """The folders on the way to a path, and the path; every call of a storage walks it."""
    return (*reversed(path.parents), path)[1:]


def folder_mode(path: PurePosixPath) -> int:
    return PRIVATE_MODE if path.parts[:1] == layout.STATE.parts else FOLDER_MODE


def number(error: errors.StorageError) -> int | None:
    """The errno behind an error."""
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None


def failed(error: errors.UploaderError) -> bool:
    """Whether the disk or the process failed, rather than that wrong things are there."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno not in _WRONG_THINGS


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


def missing_of(folders: Sequence[Path]) -> list[Path]:
    return [folder for folder in folders if not folder.exists()]


def make_root_folder(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(FOLDER_MODE)


def sync_folder(path: Path) -> None:
    # NOTE: who may not list a folder cannot make it durable.
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(name: str, mode: int, parent: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=parent)
