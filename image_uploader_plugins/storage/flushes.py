# SPDX-License-Identifier: Apache-2.0
"""Flushes of files and folders to the disk, together for all threads that need one.

A file system writes its journal once for all that is flushed at a time, so a
flush of many files costs hardly more than a flush of one.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar

from image_uploader_plugins.storage import fork
from image_uploader_plugins.storage.beneath import READ
from image_uploader_plugins.storage.folders import TOP, Folders, NotFound, sync_all
from image_uploader_plugins.storage.rounds import Rounds

_T = TypeVar("_T")

FEW = 2
"""So many files and folders are flushed one by one; for more, their file systems are."""

_AT_ONCE = 64  # descriptors that are open at a time


class Target(NamedTuple):
    """A file or folder that is to be flushed, and the device that it is on.

    The path of a folder is a text, since most are never used as a path.
    ``descriptor`` is that of a file that is open until the flush has ended.
    """

    path: PurePosixPath | str
    device: int
    is_folder: bool
    descriptor: int | None = None


class Flushes:
    """The flushes of a storage, and the folders that have names that are not durable yet."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        # The device of each folder.
        self._pending: dict[str, int] = {}
        self._flushing: dict[str, int] = {}
        self._rounds = Rounds(self._carry_out)
        self._renew()
        fork.in_child(self, Flushes._renew)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        # A child of fork does not learn how the flush of its parent ended.
        self._pending |= self._flushing
        self._flushing = {}

    def note(self, folder: str, descriptor: int) -> None:
        """Remember an open folder whose names must become durable with the next flush."""
        # Without the mutex, since that is asked for most: whoever takes it from there has yet
        # to flush it.
        if folder not in self._pending:
            device = self._folders.device(folder, descriptor)
            with self._mutex:
                self._pending[folder] = device

    def forget(self, folder: str) -> None:
        """Forget a folder, since it is gone."""
        with self._mutex:
            self._pending.pop(folder, None)

    def flush(self, files: Iterable[Target] = ()) -> None:
        """Make these files durable, and all names that any thread has changed so far.

        Raises StorageError; then the names are flushed again by the next call.
        """
        wanted = [*files]
        with self._mutex:
            # What another thread is flushing is durable when its flush has ended.
            is_needed = bool(wanted or self._pending or self._flushing)
        if is_needed:
            with self._folders.alone.waiting():
                self._rounds.join(wanted)

    def _carry_out(self, files: Sequence[Target]) -> None:
        with self._mutex:
            names = self._flushing = self._pending
            self._pending = {}
        try:
            if len(files) + len(names) > FEW and reports_errors():
                self._flush_file_systems(files, names)
            else:
                self._flush_each(_targets(files, names))
        except BaseException:
            with self._mutex:
                self._pending = names | self._pending
            raise
        finally:
            self._flushing = {}

    def _flush_file_systems(self, files: Sequence[Target], names: Mapping[str, int]) -> None:
        devices = {*names.values(), *(file.device for file in files)}
        with self._folders.folder(TOP) as top:
            here = self._folders.device(TOP, top)
            if here in devices:  # as it is unless the state or a folder is a mount
                self._folders.call(TOP, sync_file_system, top)
        for device in devices - {here}:
            self._flush_one_of(t for t in _targets(files, names) if t.device == device)

    def _flush_one_of(self, targets: Iterable[Target]) -> None:
        """Flush the file system that all of the targets are on."""
        for target in targets:
            try:
                with self._near(target) as there:
                    self._folders.call(target.path, sync_file_system, there)
                return
            except NotFound:
                if not target.is_folder:
                    raise

    def _near(self, target: Target) -> contextlib.AbstractContextManager[int]:
        """Open, for a block, something on the device of a target."""
        if target.descriptor is not None:
            return contextlib.nullcontext(target.descriptor)
        path = PurePosixPath(target.path)
        return self._folders.folder(path if target.is_folder else path.parent)

    def _flush_each(self, targets: Sequence[Target]) -> None:
        for batch in batches(targets):
            with contextlib.ExitStack() as stack:
                found = (self._open(stack, target) for target in batch)
                opened = [descriptor for descriptor in found if descriptor is not None]
                if opened:
                    self._folders.call(batch[0].path, sync_all, opened)

    def _open(self, stack: contextlib.ExitStack, target: Target) -> int | None:
        """Open a target to flush it; None for a folder that is gone."""
        try:
            near = stack.enter_context(self._near(target))
        except NotFound:
            if target.is_folder:
                return None
            raise
        if target.is_folder or target.descriptor is not None:
            return near
        path = PurePosixPath(target.path)
        descriptor = self._folders.call(path, os.open, path.name, READ, dir_fd=near)
        stack.callback(os.close, descriptor)
        return descriptor


def batches(items: Iterable[_T], size: int = _AT_ONCE) -> Iterator[list[_T]]:
    """Yield lists of up to ``size`` items, usually so few that each may have a descriptor open."""
    rest = iter(items)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def _targets(files: Iterable[Target], names: Mapping[str, int]) -> list[Target]:
    folders = (Target(folder, device, is_folder=True) for folder, device in names.items())
    return [*dict.fromkeys(files), *folders]


@functools.cache
def _syncfs() -> Callable[[int], int]:
    function = ctypes.CDLL(None, use_errno=True).syncfs
    function.argtypes = [ctypes.c_int]
    return function


def sync_file_system(descriptor: int) -> None:
    """Flush the whole file system that an open file or folder is on; raise OSError."""
    if _syncfs()(descriptor) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@functools.cache
def reports_errors() -> bool:
    """Return whether syncfs(2) tells of content that could not be written: since Linux 5.8."""
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return version is not None and tuple(map(int, version.groups())) >= (5, 8)
