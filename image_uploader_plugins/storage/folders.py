# SPDX-License-Identifier: Apache-2.0
"""System calls on paths that cannot lead out of the root, and their errors."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import functools
import os
import pwd
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, ParamSpec, TypeVar

from image_uploader_plugins import errors
from image_uploader_plugins.storage import beneath
from image_uploader_plugins.storage.alone import Alone
from image_uploader_plugins.storage.beneath import READ
from image_uploader_plugins.storage.places import Places

_P = ParamSpec("_P")
_T = TypeVar("_T")

FILE_MODE = 0o644
FOLDER_MODE = 0o755
PRIVATE_MODE = 0o700

_WRONG_THINGS = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
    *(errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL),
)
# Errors of file systems without locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
# Errors of file systems without owners.
_NO_OWNERS = (errno.ENOTSUP, errno.ENOSYS)
_REMOVED_MEANWHILE_TRIES = 100
_FLUSHING_AT_ONCE = 4
_HELD_AT_MOST = 32  # sixteen images and eight blobs stay below the usual limit of 1024
_TOP = PurePosixPath()


class NotFound(errors.StorageError):
    """There is nothing at a path."""


class Owner(NamedTuple):
    """A user and a group, by number."""

    uid: int
    gid: int

    def __str__(self) -> str:
        try:
            return f"{pwd.getpwuid(self.uid).pw_name} (uid {self.uid})"
        except KeyError:
            return f"uid {self.uid}"


class _TellsNotWhere(Exception):
    """A folder could not be entered at once; going step by step tells what is wrong, and where."""


class _Held(threading.local):
    """The folders that a thread holds open, by path; None where it holds none.

    ``missing`` are folders that it has looked for in vain, each with a slash at
    its end, ``devices`` the devices that folders are on. ``locks`` is the
    number of locks that it holds, and ``fresh`` are folders that it has seen to
    be settled since it took the last one.
    """

    def __init__(self) -> None:
        self.folders: dict[str, int] | None = None
        self.missing: tuple[str, ...] = ()
        self.devices: dict[str, int] = {}
        self.locks = 0
        self.fresh: set[str] = set()


class Folders:
    """The folders below ``root``; missing ones can be made.

    Where it is ``owned``, everything that is made gets the owner of the root,
    since files that a run as root makes would lock out the owner. The state
    folder of ``places`` is private; readers need no places. ``remedy`` tells in
    errors what the owner can do about files of others.
    """

    def __init__(
        self, root: Path, places: Places | None = None, *, owned: bool = False, remedy: str = ""
    ) -> None:
        self.root = root
        self._private = places
        self._remedy = remedy
        self.is_owned = owned
        self._settled: set[tuple[int, int]] = set()
        self._held = _Held()
        self.alone = Alone()
        self._root_text = str(root)

    def make_root(self) -> None:
        """Make the root and its parents where they are missing; existing ones keep their mode."""
        way = [self.root, *self.root.parents]
        missing = self.call(PurePosixPath(), missing_of, way)
        # Files are as durable as the folders above them. The process that made the
        # last existing one may have been killed before it was durable.
        for folder in reversed(way[: len(missing) + 1]):
            path = PurePosixPath(folder)
            if folder in missing:
                self.call(path, make_root_folder, folder)
            self.call(path, sync_folder, folder.parent)

    def call(
        self,
        path: PurePosixPath | str,
        function: Callable[_P, _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Return what ``function`` returns; raise its OSError as a StorageError about ``path``.

        All system calls on paths below the root are made here.
        """
        try:
            return function(*args, **kwargs)
        except OSError as e:
            # Most are caught at once, and to make the whole path takes longer than the rest.
            where = functools.partial(self.root.joinpath, path)
            raise _translate(where, e, self._advice) from e

    # -- whose it is

    @functools.cached_property
    def owner(self) -> Owner | None:
        """Return the owner of the root; None where owners make no difference."""
        if not self.is_owned:
            return None
        # Not by call(), which asks for the owner when something is not permitted.
        status = mapped(self.root, os.stat, self.root)
        return Owner(status.st_uid, status.st_gid)

    def give(self, path: PurePosixPath, descriptor: int, *, made: bool = True) -> None:
        """Give an open file or folder, ``made`` just now or not, to the root's owner.

        Raises StorageDenied where that needs rights that the process does not
        have.
        """
        if self.owner and not (made and self._is_ours()):
            with self._tolerating(functools.partial(os.fstat, descriptor)):
                self.call(path, os.fchown, descriptor, *self.owner)

    def give_link(self, path: PurePosixPath, folder: int, *, made: bool = True) -> None:
        """Give a symbolic link in an open folder to the root's owner, as give() does a file."""
        if self.owner and not (made and self._is_ours()):
            # Never through the link.
            look = functools.partial(os.stat, path.name, dir_fd=folder, follow_symlinks=False)
            with self._tolerating(look):
                self.call(path, change_owner_of_link, path.name, self.owner, folder)

    def is_foreign(self, uid: int) -> bool:
        """Return whether ``uid`` is another user than the root's owner."""
        return self.owner is not None and uid != self.owner.uid

    def _is_ours(self) -> bool:
        return self.owner == (os.geteuid(), os.getegid())

    @contextlib.contextmanager
    def _tolerating(self, look: Callable[[], os.stat_result]) -> Iterator[None]:
        """Allow a change of owner to fail where there are none, or where just the group is ours."""
        try:
            yield
        except errors.StorageError as e:
            denied = isinstance(e, errors.StorageDenied)
            right = denied and self.owner and look().st_uid == self.owner.uid
            if not right and e.errno not in _NO_OWNERS:
                raise

    def _advice(self) -> str:
        """Return what to do where something is not permitted."""
        with contextlib.suppress(OSError, errors.StorageError):
            if self.owner and self.owner.uid == os.geteuid():
                return f"; {self._remedy}" if self._remedy else ""
            if self.owner:
                user = Owner(os.geteuid(), os.getegid())
                return f"; the tree belongs to {self.owner}: run this as that user, not as {user}"
        return ""

    # -- folders

    def is_private(self, path: PurePosixPath) -> bool:
        """Return whether a path is in the state folder, which only the owner may enter."""
        return self._private is not None and self._private.is_private(path)

    def folder_mode(self, path: PurePosixPath) -> int:
        """Return the mode that a folder has at ``path``."""
        return PRIVATE_MODE if self.is_private(path) else FOLDER_MODE

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Hold the folders open that this thread enters in a block: each is entered once.

        For a short operation. What another process makes, removes or moves
        meanwhile of the folders themselves may go unnoticed, except that
        nothing is written to a folder that is removed.
        """
        if self._held.folders is not None:
            yield
            return
        held = self._held.folders = {}
        self._held.missing = ()
        self._held.fresh = set()
        self._held.devices = {}
        try:
            yield
        finally:
            self._held.folders = None
            for descriptor in held.values():
                os.close(descriptor)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Trust, in a block, that nobody removes folders: this thread has just taken a lock.

        A folder that is held is then looked at once, and not before each file
        that is made in it.
        """
        held = self._held
        held.fresh.clear()
        held.locks += 1
        try:
            yield
        finally:
            held.locks -= 1

    def folder(
        self, path: PurePosixPath, *, create: bool = False
    ) -> contextlib.AbstractContextManager[int]:
        """Open a folder for a block and yield its descriptor; ``create`` makes missing folders."""
        return self._lent(path, str(path), create=create) or self._opened(path, create=create)

    def folder_at(self, text: str) -> contextlib.AbstractContextManager[int]:
        """Do what folder() does, for a path as a text: faster where the folder around it is held.

        In a block of holding() alone.
        """
        held = self._held_at(text)
        if held is None:
            around, _, name = text.rpartition("/")
            parent = self._held_at(around or ".")
            if parent is None or text == ".":
                return self.folder(PurePosixPath(text))
            held = self.call(text, os.open, name, beneath.FOLDER, dir_fd=parent)
            if not self._hold(text, held):
                return _closing(held)
        return contextlib.nullcontext(held)

    def folder_of(
        self, path: PurePosixPath, *, create: bool = False
    ) -> contextlib.AbstractContextManager[int]:
        """Do what folder() does, for the folder that a path is in."""
        lent = self._lent(path, folder_text(path), create=create)
        return lent or self._opened(path.parent, create=create)

    def _opened(
        self, path: PurePosixPath, *, create: bool
    ) -> contextlib.AbstractContextManager[int]:
        if create:
            descriptor = self._walk_creating(path)
            self._held.fresh.add(str(path))
        else:
            descriptor = self._walk(path)
        return self._held_or_closed(str(path), descriptor)

    def _held_or_closed(self, text: str, descriptor: int) -> contextlib.AbstractContextManager[int]:
        if self._hold(text, descriptor):
            return contextlib.nullcontext(descriptor)
        return _closing(descriptor)

    def _lent(
        self, path: PurePosixPath, text: str, *, create: bool
    ) -> contextlib.AbstractContextManager[int] | None:
        """Return a folder that is held; None for another one, or one to be made or settled."""
        held, descriptor = self._held, self._held_at(text)
        if descriptor is None:
            return None
        if create and text != "." and not (held.locks and text in held.fresh):
            status = self.call(path, os.fstat, descriptor)
            if not status.st_nlink or _identity(status) not in self._settled:
                self._let_go(text)
                return None
            held.fresh.add(text)
            held.devices[text] = status.st_dev
        return contextlib.nullcontext(descriptor)

    def _held_at(self, text: str) -> int | None:
        """Return the descriptor of a folder that this thread holds; None for another one."""
        return self._held.folders.get(text) if self._held.folders else None

    def look_anew(self, folder: str) -> None:
        """Have this thread look at a folder before it makes something in it."""
        self._held.fresh.discard(folder)

    def _hold(self, text: str, descriptor: int) -> bool:
        held = self._held.folders
        if held is None or len(held) >= _HELD_AT_MOST:
            return False
        held[text] = descriptor
        return True

    def _let_go(self, text: str) -> None:
        """Do not hold a folder any more, since it is removed."""
        if self._held.folders:
            descriptor = self._held.folders.pop(text, None)
            if descriptor is not None:
                os.close(descriptor)

    def _top(self) -> contextlib.AbstractContextManager[int]:
        """Open the root for a block."""
        if lent := self._lent(_TOP, ".", create=False):
            return lent
        # The root itself may be a link: that is the administrator's choice.
        descriptor = self.call(_TOP, os.open, self._root_text, os.O_RDONLY | os.O_DIRECTORY)
        return self._held_or_closed(".", descriptor)

    def _walk(self, path: PurePosixPath) -> int:
        held = self._held_at(folder_text(path))
        if held is not None and path.name:
            self._check_missing(path)
            try:
                return self._enter(held, path)
            except NotFound:
                self._note_missing(path)
                raise
        with self._top() as top:
            if not path.parts:
                return os.dup(top)
            self._check_missing(path)
            if beneath.is_available():
                with contextlib.suppress(_TellsNotWhere):
                    return self._jump(top, path)
            return self._step(top, path)

    def is_in_missing(self, path: PurePosixPath) -> bool:
        """Return whether this thread has looked in vain for the folder that a path is in."""
        return self._misses(folder_text(path))

    def _misses(self, text: str) -> bool:
        held = self._held
        return bool(held.missing and held.folders and f"{text}/".startswith(held.missing))

    def _check_missing(self, path: PurePosixPath) -> None:
        """Raise NotFound for a folder that this thread has looked for in vain."""
        if self._misses(str(path)):
            where = functools.partial(self.root.joinpath, path)
            raise NotFound(where, os.strerror(errno.ENOENT), errno.ENOENT)

    def _jump(self, top: int, path: PurePosixPath) -> int:
        """Enter a folder at once; raise _TellsNotWhere unless it is there or missing."""
        try:
            return self._at_once(top, path, beneath.open_folder_beneath, str(path))
        except NotFound:
            self._note_missing(path)
            raise

    def _note_missing(self, path: PurePosixPath) -> None:
        held, text = self._held, str(path)
        if held.folders and not self._misses(text):
            held.missing += (f"{text}/",)

    def call_beside(
        self,
        path: PurePosixPath,
        function: Callable[..., _T],
        **options: Any,
    ) -> _T:
        """Do what call() does, for a function of a name and the open folder ``dir_fd`` of it."""
        folder, _, name = str(path).rpartition("/")
        held = self._held_at(folder or ".")
        if held is not None:
            return self.call(path, function, name, dir_fd=held, **options)
        with self.folder_of(path) as there:
            return self.call(path, function, path.name or ".", dir_fd=there, **options)

    def open_to_read(self, path: PurePosixPath) -> int:
        """Open what is at ``path``, to read; raise StorageError.

        A folder that is not held is not entered for that, where the system can
        open a file at once.
        """
        text = str(path)
        folder, _, name = text.rpartition("/")
        held = self._held_at(folder or ".")
        if held is not None:
            return self.call(path, os.open, name, READ, dir_fd=held)
        if beneath.is_available():
            self._check_missing(path)
            with contextlib.suppress(_TellsNotWhere), self._top() as top:
                return self._at_once(top, path, beneath.open_file_beneath, text)
        with self.folder_of(path) as there:
            return self.call(path, os.open, name, READ, dir_fd=there)

    def _at_once(
        self, top: int, path: PurePosixPath, how: Callable[[int, str], int], text: str
    ) -> int:
        """Open a path at once; raise _TellsNotWhere unless it is there or missing."""
        try:
            return self.call(path, how, top, text)
        except NotFound:
            raise
        except errors.StorageError as e:
            raise _TellsNotWhere from e

    def _step(self, top: int, path: PurePosixPath) -> int:
        """Enter a folder step by step; an error tells which part of the path is wrong."""
        here = os.dup(top)
        for walked in _way(path):
            try:
                child = self._enter(here, walked)
            finally:
                os.close(here)
            here = child
        return here

    def _walk_creating(self, path: PurePosixPath) -> int:
        with contextlib.suppress(NotFound):
            descriptor = self._walk(path)
            if not path.parts or self._is_settled(path, descriptor):
                return descriptor
            os.close(descriptor)
        # A delete may remove an empty folder between our making it and entering it.
        for _ in range(_REMOVED_MEANWHILE_TRIES):
            with contextlib.suppress(NotFound), self.folder(path.parent, create=True) as parent:
                return self._enter_creating(parent, path)
            # No lock keeps a delete from removing the folders above a repository.
            self.look_anew(folder_text(path))
        raise errors.StorageError(self.root / path, "keeps disappearing")

    def _is_settled(self, path: PurePosixPath, descriptor: int) -> bool:
        try:
            return _identity(self.call(path, os.fstat, descriptor)) in self._settled
        except BaseException:
            os.close(descriptor)
            raise

    def _enter(self, parent: int, path: PurePosixPath) -> int:
        return self.call(path, os.open, path.name, beneath.FOLDER, dir_fd=parent)

    def _entered(self, parent: int, path: PurePosixPath) -> int | None:
        """Enter a folder of an open one; return None where it is missing."""
        if self._misses(str(path)):
            return None
        try:
            return self._enter(parent, path)
        except NotFound:
            return None

    def _enter_creating(self, parent: int, path: PurePosixPath) -> int:
        child = self._entered(parent, path)
        made = child is None
        if child is None:
            self.call(path, make_folder, path.name, self.folder_mode(path), parent)
            child = self._enter(parent, path)
        self._held.missing = tuple(m for m in self._held.missing if m != f"{path}/")
        try:
            self._settle(parent, child, path, made)
        except BaseException:
            os.close(child)
            raise
        return child

    def _settle(self, parent: int, child: int, path: PurePosixPath, made: bool) -> None:
        """Set a folder's mode and owner, and make its name durable, also if another made it."""
        mode = self.folder_mode(path)
        status = self.call(path, os.fstat, child)
        if status.st_mode & mode != mode:
            self.call(path, os.fchmod, child, mode)
        if made:
            self.give(path, child)
        elif os.geteuid() == 0 and self.is_foreign(status.st_uid):
            # The process that made it was killed just then. Without owners, this does nothing.
            with contextlib.suppress(errors.StorageDenied):
                self.give(path, child, made=False)
        if made or _identity(status) not in self._settled:
            self.changed(folder_text(path), parent)
            self._settled.add(_identity(status))

    def changed(self, folder: str, descriptor: int) -> None:
        """Make the names in an open folder durable, at once or with the next flush."""
        self.call(folder, os.fsync, descriptor)

    def device(self, folder: str, descriptor: int) -> int:
        """Return the device that an open folder is on."""
        devices = self._held.devices if self._held.folders else {}
        if folder not in devices:
            status = self.call(folder, os.fstat, descriptor)
            devices[folder] = status.st_dev
        return devices[folder]


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def mapped(
    path: Path | Callable[[], Path],
    function: Callable[_P, _T],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> _T:
    """Return what ``function`` returns, with errors as by call(); for any absolute path.

    ``path`` may be a function that returns it.
    """
    try:
        return function(*args, **kwargs)
    except OSError as e:
        raise _translate(path, e) from e


@functools.lru_cache(maxsize=1024)
def _way(path: PurePosixPath) -> tuple[PurePosixPath, ...]:
    """Return the folders on the way to a path, and the path; cached, since every call needs it."""
    return (*reversed(path.parents), path)[1:]


def folder_text(path: PurePosixPath) -> str:
    """Return the path of the folder that a path is in, as text.

    This is asked for most of all, and to make a path of it takes longer than
    the rest.
    """
    return str(path).rpartition("/")[0] or "."


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def failed(error: errors.UploaderError) -> bool:
    """Return whether an error means a failing disk or process, not a wrong entry."""
    found = error.errno if isinstance(error, errors.StorageError) else None
    return found is not None and found not in _WRONG_THINGS


def _translate(
    path: Path | Callable[[], Path], error: OSError, advice: Callable[[], str] = str
) -> errors.StorageError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    # Python itself gives some errors no number.
    number = error.errno or errno.EIO
    if number == errno.ENOENT:
        return NotFound(path, reason, number)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return errors.StorageFull(path, reason, number)
    if number in (errno.EACCES, errno.EPERM):
        return errors.StorageDenied(path, reason + advice(), number)
    if number == errno.EROFS:
        return errors.StorageDenied(path, reason, number)
    if number in (errno.ENOTDIR, errno.ELOOP):
        reason = "a symbolic link or a file where neither may be"
    return errors.StorageError(path, reason, number)


def missing_of(folders: Sequence[Path]) -> list[Path]:
    """Return those of the folders that do not exist."""
    return [folder for folder in folders if not folder.exists()]


def make_root_folder(path: Path) -> None:
    """Make a folder on the way to the root, unless it exists."""
    with contextlib.suppress(FileExistsError):
        path.mkdir()
        path.chmod(FOLDER_MODE)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to disk, as far as that is permitted."""
    # NOTE: a process that may not list a folder cannot make it durable.
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(name: str, mode: int, parent: int) -> None:
    """Make a folder in an open one, unless it exists."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=parent)


def change_owner_of_link(name: str, owner: Owner, parent: int) -> None:
    """Change the owner of a symbolic link, not of what it leads to."""
    os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)


def sync_all(descriptors: Sequence[int]) -> None:
    """Flush files or folders; many at once, for file systems then write their journal once."""
    if len(descriptors) > _FLUSHING_AT_ONCE:
        with concurrent.futures.ThreadPoolExecutor(_FLUSHING_AT_ONCE) as pool:
            list(pool.map(os.fsync, descriptors))
    else:
        list(map(os.fsync, descriptors))
