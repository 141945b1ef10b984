# SPDX-License-Identifier: Apache-2.0
"""System calls on paths that cannot lead out of the root, and their errors."""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import functools
import itertools
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
# A put in a repository of many tags holds 38, of a few tags 25, that of a blob fewer. Sixteen
# images and eight blobs stay below the usual limit of 1024.
_HELD_AT_MOST = 40
TOP = "."
"""The path of the root."""

Where = PurePosixPath | str
"""A path relative to the root; texts are faster, and are as str() makes them of paths."""


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


class _Held(threading.local):
    """A block in which a thread holds folders open, by path; ``depth`` such blocks are nested.

    ``missing`` are folders that it has looked for in vain, each with a slash at
    its end, ``devices`` the devices that folders are on. ``locks`` is the
    number of locks that it holds, and ``fresh`` are folders that it has seen to
    be settled since it took the last one.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.locks = 0
        self._forget()

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if not self.depth:
            descriptors = self.folders.values()
            self._forget()
            for descriptor in descriptors:
                os.close(descriptor)

    def _forget(self) -> None:
        self.folders: dict[str, int] = {}
        self.missing: tuple[str, ...] = ()
        self.devices: dict[str, int] = {}
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
        self.root_text = str(root)

    def make_root(self) -> None:
        """Make the root and its parents where they are missing; existing ones keep their mode."""
        way = [self.root, *self.root.parents]
        missing = self.call(TOP, missing_of, way)
        # Files are as durable as the folders above them. The process that made the
        # last existing one may have been killed before it was durable.
        for folder in reversed(way[: len(missing) + 1]):
            path = PurePosixPath(folder)
            if folder in missing:
                self.call(path, make_root_folder, folder)
            self.call(path, sync_folder, folder.parent)

    def call(
        self,
        path: Where,
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

    def give(self, path: Where, descriptor: int, *, made: bool = True) -> None:
        """Give an open file or folder, ``made`` just now or not, to the root's owner.

        Raises StorageDenied where that needs rights that the process does not
        have.
        """
        if self.owner and not (made and self._is_ours()):
            with self._tolerating(functools.partial(os.fstat, descriptor)):
                self.call(path, os.fchown, descriptor, *self.owner)

    def give_link(self, path: Where, folder: int, *, made: bool = True) -> None:
        """Give a symbolic link in an open folder to the root's owner, as give() does a file."""
        if self.owner and not (made and self._is_ours()):
            _, name = split(path)
            # Never through the link.
            look = functools.partial(os.stat, name, dir_fd=folder, follow_symlinks=False)
            with self._tolerating(look):
                self.call(path, change_owner_of_link, name, self.owner, folder)

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

    def is_private(self, path: Where) -> bool:
        """Return whether a path is in the state folder, which only the owner may enter."""
        return self._private is not None and self._private.is_private(path)

    def folder_mode(self, path: Where) -> int:
        """Return the mode that a folder has at ``path``."""
        return PRIVATE_MODE if self.is_private(path) else FOLDER_MODE

    def holding(self) -> contextlib.AbstractContextManager[None]:
        """Hold the folders open that this thread enters in a block: each is entered once.

        For a short operation. What another process makes, removes or moves
        meanwhile of the folders themselves may go unnoticed, except that
        nothing is written to a folder that is removed.
        """
        return self._held

    def lock_taken(self) -> None:
        """Trust, until lock_released(), that nobody removes folders: this thread has a lock now.

        A folder that is held is then looked at once, and not before each file
        that is made in it.
        """
        self._held.fresh.clear()
        self._held.locks += 1

    def lock_released(self) -> None:
        """End what lock_taken() began."""
        self._held.locks -= 1

    def folder(
        self, path: Where, *, create: bool = False
    ) -> contextlib.AbstractContextManager[int]:
        """Open a folder for a block and yield its descriptor; ``create`` makes missing folders."""
        text = str(path)
        held = self._lent(text, create=create)
        return self._opened(text, create=create) if held is None else contextlib.nullcontext(held)

    def folder_of(
        self, path: Where, *, create: bool = False
    ) -> contextlib.AbstractContextManager[int]:
        """Do what folder() does, for the folder that a path is in."""
        return self.folder(split(path)[0], create=create)

    def call_beside(
        self,
        path: Where,
        function: Callable[..., _T],
        *args: Any,
        create: bool = False,
        **options: Any,
    ) -> _T:
        """Do what call() does, for a function of a name and the open folder ``dir_fd`` of it.

        ``create`` makes missing folders.
        """
        folder, name = split(path)
        held = self._lent(folder, create=create)
        if held is not None:
            return self.call(path, function, name, *args, dir_fd=held, **options)
        with self._opened(folder, create=create) as there:
            return self.call(path, function, name, *args, dir_fd=there, **options)

    def open_to_read(self, path: Where) -> int:
        """Open what is at ``path``, to read; raise StorageError.

        A folder that is not held is not entered for that, where the system can
        open a file at once.
        """
        text = str(path)
        if split(text)[0] not in self._held.folders and beneath.is_available():
            self._check_missing(text)
            with self.folder(TOP) as top:
                found = self._at_once(top, text, beneath.open_file_beneath)
            if found is not None:
                return found
        return self.call_beside(text, os.open, READ)

    def _lent(self, text: str, *, create: bool) -> int | None:
        """Return a folder that is held; None for another one, or one to be made or settled."""
        held = self._held
        descriptor = held.folders.get(text)
        if descriptor is None or not create or text == TOP or (held.locks and text in held.fresh):
            return descriptor
        status = self.call(text, os.fstat, descriptor)
        if not status.st_nlink or _identity(status) not in self._settled:
            self._let_go(text)
            return None
        held.fresh.add(text)
        self._note_device(text, status)
        return descriptor

    def _opened(self, text: str, *, create: bool) -> contextlib.AbstractContextManager[int]:
        """Open a folder that is not held for a block, and hold it if there is room."""
        held = self._held
        descriptor = self._walk_creating(text) if create else self._walk(text)
        if not held.depth or len(held.folders) >= _HELD_AT_MOST:
            return _closing(descriptor)
        held.folders[text] = descriptor
        if create:
            held.fresh.add(text)
        return contextlib.nullcontext(descriptor)

    def look_anew(self, folder: str) -> None:
        """Have this thread look at a folder before it makes something in it."""
        self._held.fresh.discard(folder)

    def _let_go(self, text: str) -> None:
        """Do not hold a folder any more, since it is removed."""
        descriptor = self._held.folders.pop(text, None)
        if descriptor is not None:
            os.close(descriptor)

    def _walk(self, text: str) -> int:
        """Enter a folder; raise NotFound where it is missing."""
        if text == TOP:
            # The root itself may be a link: that is the administrator's choice.
            return self.call(TOP, os.open, self.root_text, os.O_RDONLY | os.O_DIRECTORY)
        self._check_missing(text)
        around = self._held.folders.get(split(text)[0])
        if around is not None:
            return self._look_for(text, self._enter, around)
        top = self._held.folders.get(TOP)
        if top is not None:
            return self._look_for(text, self._way_from, top)
        with self.folder(TOP) as top:
            return self._look_for(text, self._way_from, top)

    def _look_for(self, text: str, enter: Callable[[int, str], int], start: int) -> int:
        """Enter a folder from an open one, and remember if it is missing."""
        try:
            return enter(start, text)
        except NotFound:
            held = self._held
            if held.depth:
                held.missing += (f"{text}/",)
            raise

    def _way_from(self, top: int, text: str) -> int:
        """Enter a folder, from the root: at once if possible, else step by step."""
        found = None
        if beneath.is_available():
            found = self._at_once(top, text, beneath.open_folder_beneath)
        return self._step(top, text) if found is None else found

    def is_in_missing(self, path: Where) -> bool:
        """Return whether this thread has looked in vain for the folder that a path is in."""
        missing = self._held.missing
        return bool(missing) and str(path).startswith(missing)

    def _check_missing(self, text: str) -> None:
        """Raise NotFound for a folder that this thread has looked for in vain."""
        if self.is_in_missing(f"{text}/"):
            where = functools.partial(self.root.joinpath, text)
            raise NotFound(where, os.strerror(errno.ENOENT), errno.ENOENT)

    def _at_once(self, top: int, text: str, how: Callable[[int, str], int]) -> int | None:
        """Open a path at once; return None unless it is there or missing.

        Then going step by step tells what is wrong, and where.
        """
        try:
            return self.call(text, how, top, text)
        except NotFound:
            raise
        except errors.StorageError:
            return None

    def _step(self, top: int, text: str) -> int:
        """Enter a folder step by step; an error tells which part of the path is wrong."""
        here = os.dup(top)
        for walked in itertools.accumulate(text.split("/"), "{}/{}".format):
            try:
                child = self._enter(here, walked)
            finally:
                os.close(here)
            here = child
        return here

    def _walk_creating(self, text: str) -> int:
        if text == TOP:
            return self._walk(text)
        with contextlib.suppress(NotFound):
            descriptor = self._walk(text)
            if self._is_settled(text, descriptor):
                return descriptor
            os.close(descriptor)
        folder, _ = split(text)
        # A delete may remove an empty folder between our making it and entering it.
        for _ in range(_REMOVED_MEANWHILE_TRIES):
            with contextlib.suppress(NotFound), self.folder(folder, create=True) as parent:
                return self._enter_creating(parent, text)
            # No lock keeps a delete from removing the folders above a repository.
            self.look_anew(folder)
        raise errors.StorageError(self.root / text, "keeps disappearing")

    def _is_settled(self, text: str, descriptor: int) -> bool:
        try:
            status = self.call(text, os.fstat, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._note_device(text, status)
        return _identity(status) in self._settled

    def _enter(self, parent: int, text: str) -> int:
        return self.call(text, os.open, split(text)[1], beneath.FOLDER, dir_fd=parent)

    def _entered(self, parent: int, text: str) -> int | None:
        """Enter a folder of an open one; return None where it is missing."""
        if self.is_in_missing(f"{text}/"):
            return None
        try:
            return self._enter(parent, text)
        except NotFound:
            return None

    def _enter_creating(self, parent: int, text: str) -> int:
        child = self._entered(parent, text)
        made = child is None
        if child is None:
            self.call(text, make_folder, split(text)[1], self.folder_mode(text), parent)
            child = self._enter(parent, text)
        if self._held.missing:
            self._held.missing = tuple(m for m in self._held.missing if m != f"{text}/")
        try:
            self._settle(parent, child, text, made)
        except BaseException:
            os.close(child)
            raise
        return child

    def _settle(self, parent: int, child: int, path: str, made: bool) -> None:
        """Set a folder's mode and owner, and make its name durable, also if another made it."""
        mode = self.folder_mode(path)
        status = self.call(path, os.fstat, child)
        self._note_device(path, status)
        if status.st_mode & mode != mode:
            self.call(path, os.fchmod, child, mode)
        if made:
            self.give(path, child)
        elif os.geteuid() == 0 and self.is_foreign(status.st_uid):
            # The process that made it was killed just then. Without owners, this does nothing.
            with contextlib.suppress(errors.StorageDenied):
                self.give(path, child, made=False)
        if made or _identity(status) not in self._settled:
            self.changed(split(path)[0], parent)
            self._settled.add(_identity(status))

    def changed(self, folder: str, descriptor: int) -> None:
        """Make the names in an open folder durable, at once or with the next flush."""
        self.call(folder, os.fsync, descriptor)

    def device(self, folder: str, descriptor: int) -> int:
        """Return the device that an open folder is on."""
        known = self._held.devices.get(folder)
        if known is None:
            status = self.call(folder, os.fstat, descriptor)
            self._note_device(folder, status)
            known = status.st_dev
        return known

    def _note_device(self, folder: str, status: os.stat_result) -> None:
        if self._held.depth:
            self._held.devices[folder] = status.st_dev


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


def split(path: Where) -> tuple[str, str]:
    """Return the path of the folder that a path is in, and the name there.

    This is asked for most of all: as texts, since paths are slow to make.
    """
    folder, _, name = str(path).rpartition("/")
    return folder or TOP, name


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
