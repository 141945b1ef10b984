# SPDX-License-Identifier: Apache-2.0
"""Looks at, fails or kills at the n-th system call of a storage.

Everything that a storage does on the disk passes through Folders.call, with
three exceptions that need no point of their own: lock files (empty, made and removed
by whoever holds them, their locks end with the process), closing a descriptor, and
the removal of the staging folder by close(), after which the next process
finds what it also finds after a kill.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import gc
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pytest

from image_uploader_plugins.storage import beneath, entries, flushes, folders, locks
from image_uploader_plugins.storage.folders import Folders

# What a storage may call.  A primitive that is new must be put in one of these.
_READING = {
    *(os.fstat, os.stat, entries.listing, entries.identities, os.readlink, os.read),
    *(entries.is_empty, entries.statuses_of),
    *(folders.missing_of, fcntl.flock, locks.take, locks.wait),
    *(beneath.open_folder_beneath, beneath.open_file_beneath, beneath.status_beneath),
}
_CHANGING = {
    *(os.write, os.fchmod, os.fchown, os.utime, os.fsync),
    *(os.rename, os.link, os.symlink, os.unlink, os.rmdir),
    *(folders.make_folder, folders.make_root_folder, folders.sync_folder, folders.sync_all),
    *(folders.change_owner_of_link, flushes.sync_file_system),
}
SYNCS = (os.fsync, folders.sync_folder, folders.sync_all, flushes.sync_file_system)


class Killed(BaseException):
    """The end of a process, as far as one process can play it."""


@dataclasses.dataclass(slots=True)
class Primitive:
    """One system call that is about to be made."""

    path: PurePosixPath
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def changes(self) -> bool:
        """Whether it may change what is on the disk, or what of it is durable."""
        if self.function is os.open:
            return bool(self.args[1] & os.O_CREAT)
        if self.function in _READING:
            return False
        assert self.function in _CHANGING, f"a new primitive: {self.function}"
        return True

    @property
    def opens(self) -> bool:
        """Whether it opens a file or folder."""
        beneaths = (
            *(beneath.open_folder_beneath, beneath.open_file_beneath),
            beneath.status_beneath,
        )
        return self.function in (os.open, *beneaths)

    @property
    def effect(self) -> bool:
        """Whether it may change what others see."""
        return self.changes and self.function not in SYNCS

    def __call__(self) -> Any:
        return self.function(*self.args, **self.kwargs)

    def __str__(self) -> str:
        return f"{self.function.__name__} {self.path}"


Hook = Callable[[Primitive], Any]
PLAIN: Hook = Primitive.__call__


@contextlib.contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Have ``hook`` make every system call of every storage."""
    if hook is PLAIN:
        yield
        return
    original = Folders.call

    def call(
        self: Folders,
        path: PurePosixPath | str,
        function: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        path = PurePosixPath(path)
        if function is entries.statuses:
            return statuses(self, path, *args)
        return original(self, path, hook, Primitive(path, function, args, kwargs))

    def statuses(
        self: Folders, path: PurePosixPath, folder: int
    ) -> dict[str, os.stat_result | None]:
        """What entries.statuses() does, call by call."""
        found: dict[str, os.stat_result | None] = {}
        for name in original(self, path, hook, Primitive(path, entries.listing, (folder,), {})):
            look = {"dir_fd": folder, "follow_symlinks": False}
            try:
                found[name] = hook(Primitive(path / name, os.stat, (name,), look))
            except OSError:
                found[name] = None
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folders, "call", call)
        yield


class Failing:
    """Fails the n-th (from 0) call with an errno, makes the others through ``hook``."""

    def __init__(self, n: int, number: int, hook: Hook) -> None:
        self.failed: Primitive | None = None
        self._countdown = n
        self._errno = number
        self._hook = hook

    def __call__(self, primitive: Primitive) -> Any:
        self._countdown -= 1
        if self._countdown == -1:
            self.failed = primitive
            raise OSError(self._errno, os.strerror(self._errno))
        return self._hook(primitive)


class Dying:
    """Plays a kill right after the n-th (from 1) effect: nothing is cleaned up either."""

    def __init__(self, n: int, hook: Hook) -> None:
        self._countdown = n
        self._hook = hook

    def __call__(self, primitive: Primitive) -> Any:
        if self._countdown <= 0:
            raise Killed
        self._countdown -= primitive.effect
        try:
            return self._hook(primitive)
        finally:
            if self._countdown <= 0:
                raise Killed


def killed(run: Callable[[Hook], object], n: int, make: Hook) -> None:
    """Run in a child that kills itself right after the n-th (from 1) effect, 0: before the first.

    What is on the disk right before an effect is what is there right after
    the one before, and an fsync leaves it as it is.
    """
    count = 0

    def hook(primitive: Primitive) -> Any:
        nonlocal count
        if primitive.effect and n == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        count += primitive.effect
        try:
            return make(primitive)
        finally:
            if primitive.effect and count == n:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        try:
            run(hook)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the child was not killed at {n}: {status}"
    assert os.WTERMSIG(status) == signal.SIGKILL


def across_file_systems(primitive: Primitive) -> Any:
    """The state directory on another file system than the tree: neither rename nor link cross."""
    if primitive.function in (os.rename, os.link):
        source, target = (
            str(Path(f"/proc/self/fd/{primitive.kwargs[name]}").readlink())
            for name in ("src_dir_fd", "dst_dir_fd")
        )
        if ("/.local-export" in source) != ("/.local-export" in target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return primitive()


_Item = TypeVar("_Item")


def spread(check: Callable[[_Item], list[str]], items: Sequence[_Item]) -> None:
    """Fail with what ``check`` has to say of any item; as many processes as processors."""
    _work[:] = [check, items]
    gc.freeze()
    try:
        with multiprocessing.get_context("fork").Pool(os.cpu_count(), gc.disable) as pool:
            # Neighbours are alike: whoever has checked one knows the other.
            found = pool.map(_checked, range(len(items)), chunksize=40)
    finally:
        gc.unfreeze()
    problems = [line for lines in found for line in lines]
    if problems:
        pytest.fail("\n".join([*problems[:20], f"{len(problems)} in all"]), pytrace=False)


# What the processes of spread() inherit.
_work: list[Any] = []


def _checked(n: int) -> list[str]:
    check, items = _work
    found: list[str] = check(items[n])
    return found


@contextlib.contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder where fsync costs nothing, if there is such a place."""
    memory = "/dev/shm"  # noqa: S108 - a folder of a name of its own is made in it
    place = memory if os.access(memory, os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="faults-", dir=place)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder)
