# SPDX-License-Identifier: Apache-2.0
"""Dry runs: the changes that would be made, found without making any."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypeVar

from image_uploader_plugins import errors
from image_uploader_plugins.storage.beneath import (
    open_file_beneath,
    open_folder_beneath,
    status_beneath,
)
from image_uploader_plugins.storage.entries import (
    identities,
    is_empty,
    listing,
    statuses,
    statuses_of,
)
from image_uploader_plugins.storage.folders import NotFound, Where, missing_of
from image_uploader_plugins.storage.storage import Storage

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Calls that change nothing on the disk, whatever their arguments.
_HARMLESS: frozenset[Callable[..., Any]] = frozenset(
    {
        *(os.fstat, os.stat, os.read, os.readlink, missing_of),
        *(listing, is_empty, identities, statuses, statuses_of),
        *(open_file_beneath, open_folder_beneath, status_beneath),
    }
)
# Flags of open(2) that make, shorten and change nothing.
_HARMLESS_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK

MISSING = "is missing"
DIFFERENT = "is not what it should be"
SURPLUS = "should not be there"


class Change(NamedTuple):
    """A path that would be changed, and the reason."""

    path: PurePosixPath
    reason: str


class DryRun(Storage):
    """A storage that notes the changes that it is asked for, and makes none.

    It always reads the real state of the disk, so changes that follow from
    other changes are not seen. It raises AssertionError for changes that it
    cannot note, and for any system call that is not known to be harmless.

    The private state counts as absent where this process may not enter it, so
    that others than its owner can look.
    """

    @functools.cached_property
    def changes(self) -> set[Change]:
        """Return the changes that were noted so far."""
        return set()

    def call(
        self,
        path: Where,
        function: Callable[_P, _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        if function not in _HARMLESS and not _is_harmless_opening(function, args):
            name = getattr(function, "__name__", repr(function))
            raise AssertionError(f"a dry run would change {path}: {name}")
        try:
            return super().call(path, function, *args, **kwargs)
        except errors.StorageDenied as e:
            if e.errno == errno.EROFS or not self.is_private(path):
                raise
            raise NotFound(e.path, e.reason, errno.ENOENT) from e

    @functools.cached_property
    def is_hidden(self) -> bool:
        if not self.status(self.places.state):
            return False
        try:
            with self.folder(self.places.state):
                return False
        except NotFound:
            return True

    def write(self, path: Where, content: bytes) -> bool:
        return not self.holds(path, content) and self._note(path)

    def symlink(self, path: Where, target: str) -> bool:
        return self.link_target(path) != target and self._note(path)

    def publish_all(self, wanted: Iterable[tuple[Where, bytes | str | None]]) -> None:
        for path, content in wanted:
            if content is None:
                self.unlink(path)
            elif isinstance(content, str):
                self.symlink(path, content)
            else:
                self.write(path, content)

    def mark(self, path: Where, content: bytes) -> None:
        """Do nothing: a mark is only needed where something changes."""

    def afterwards(self, action: Callable[[], object]) -> None:
        """Do nothing: nothing is ever published."""

    def link(self, source: Where, path: Where) -> None:
        self._note(path)

    def unlink(self, path: Where) -> bool:
        found = self.status(path) is not None
        if found:
            self.changes.add(Change(PurePosixPath(path), SURPLUS))
        return found

    def drop(self, path: Where) -> bool:
        """Note nothing: what may be dropped does no harm."""
        return self.status(path) is not None

    def remove_empty(self, path: Where) -> bool:
        # The removal of its files is noted, and that of the empty folder is not worth a note.
        return self.is_empty(path)

    def sync(self) -> None:
        """Do nothing: there is nothing to make durable."""

    def _note(self, path: Where) -> bool:
        self.changes.add(Change(PurePosixPath(path), DIFFERENT if self.status(path) else MISSING))
        return True

    def _walk_creating(self, text: str) -> NoReturn:
        # Lock files are made in a folder that is opened here, without call().
        raise AssertionError(f"a dry run would write in {text}")


def _is_harmless_opening(function: Callable[..., object], args: Sequence[object]) -> bool:
    """Return whether a call opens something and changes nothing; ``args`` are name and flags."""
    flags = args[1] if function is os.open and args[1:] else None
    return isinstance(flags, int) and flags & ~_HARMLESS_FLAGS == 0
