# SPDX-License-Identifier: Apache-2.0
"""The digests of files, each read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from image_uploader_plugins import errors, parallel
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import hashing
from image_uploader_plugins.local_export.verify.finding import Remedy
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.storage import File, NotFound, Storage, failed

_Key = tuple[tuple[int, int], int, float]
_Item = tuple[Digest, File]
_T = TypeVar("_T")

_SMALL = 64 * 1024  # bytes


class Damage(NamedTuple):
    """A file that was read whole and does not hash to its name."""

    actual: object

    def __str__(self) -> str:
        return f"its content hashes to {self.actual}"


class Unread(NamedTuple):
    """A file that could not be read, twice: its content is not known."""

    reason: str

    def __str__(self) -> str:
        return f"could not be read: {self.reason}"


Problem = Damage | Unread

_NEW = Unread("it was not tried")


def blame(root: Path, error: errors.StorageError) -> tuple[PurePosixPath, str]:
    """Return the path in the tree that could not be looked at, and the reason."""
    path = PurePosixPath(str(error.path))
    path = path.relative_to(root) if path.is_relative_to(root) else path
    return path, str(Unread(error.reason)) if failed(error) else error.reason


def twice(look: Callable[[], _T]) -> _T:
    """Return what ``look`` returns; call it again where the disk or the process failed.

    Raises the StorageError of the second call.
    """
    try:
        return look()
    except errors.StorageError as e:
        if not failed(e):
            raise
    return look()


class Contents:
    """The problems of files, by inode: all links to a file are read with the first of them."""

    def __init__(self, storage: Storage, meter: Meter) -> None:
        self._storage = storage
        self._meter = meter
        self._problems: dict[tuple[_Key, Digest], Problem | None] = {}
        self._whole: set[Digest] = set()
        self.bytes_read = 0

    def read(self, files: Iterable[tuple[Digest, File]]) -> None:
        """Hash the files that have not been hashed, without a lock; files may be removed meanwhile.

        Files that could not be read before are read again.
        """
        new = {(_key(file), digest): file for digest, file in files}
        wanted = [(key[1], file) for key, file in new.items() if not self._is_known(key)]
        self._meter.expect(sum(file.size for _, file in wanted))
        # Large files first, so that no thread is left alone with one in the end.
        large = [item for item in wanted if item[1].size > _SMALL]
        large.sort(key=lambda item: item[1].size, reverse=True)
        for (digest, file), problem in parallel.each(self._read, large):
            self._note(digest, file, problem)
        # Threads would wait longer for the interpreter than it takes to read these.
        with self._storage.holding():
            for digest, file in wanted:
                if file.size <= _SMALL:
                    self._note(digest, file, self._read((digest, file)))

    def _is_known(self, key: tuple[_Key, Digest]) -> bool:
        return key in self._problems and not isinstance(self._problems[key], Unread)

    def problem(self, digest: Digest, file: File) -> Problem | None:
        """Return why a file cannot be what ``digest`` names, or None; read it now if it is new."""
        key = (_key(file), digest)
        if key not in self._problems:
            self._note(digest, file, self._read((digest, file)))
        return self._problems[key]

    def is_intact(self, digest: Digest, file: File) -> bool:
        """Return whether exactly this file was read whole, and was right."""
        return self._problems.get((_key(file), digest), _NEW) is None

    def is_damaged(self, digest: Digest, file: File) -> bool:
        """Return whether exactly this file was read whole, twice, and was wrong both times."""
        return isinstance(self._problems.get((_key(file), digest)), Damage)

    def remedy(self, digest: Digest) -> Remedy:
        """Return the remedy for a damaged or missing blob: repair if an intact copy was seen."""
        return Remedy.REPAIR if digest in self._whole else Remedy.FETCH

    def _note(self, digest: Digest, file: File, problem: Problem | None) -> None:
        self._problems[_key(file), digest] = problem
        self.bytes_read += file.size
        if problem is None:
            self._whole.add(digest)

    def _read(self, item: _Item) -> Problem | None:
        digest, file = item
        try:
            actual = hashing.wrong_digest(self._storage, file.path, digest, self._meter.add)
            now = self._storage.file(file.path) if actual else None
        except NotFound:
            return None  # deleted meanwhile; another check tells whether it is needed
        except errors.StorageError as e:
            return Unread(e.reason)
        if now and _key(now) != _key(file):
            return self._read((digest, now))
        return Damage(actual) if now else None


def _key(file: File) -> _Key:
    return file.inode, file.size, file.modified
