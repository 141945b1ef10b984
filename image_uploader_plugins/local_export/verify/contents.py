"""What files hash to, each read once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeVar

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.local_export import parallel
from image_uploader_plugins.local_export.storage import File, NotFound, Storage, failed
from image_uploader_plugins.local_export.verify.finding import Remedy
from image_uploader_plugins.meter import Meter

_Key = tuple[tuple[int, int], int, float]
_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Damage:
    """A file that was read whole and is not what its name says."""

    actual: object

    def __str__(self) -> str:
        return f"its content hashes to {self.actual}"


@dataclasses.dataclass(frozen=True)
class Unread:
    """A file that could not be read, twice: what is in it is not known."""

    reason: str

    def __str__(self) -> str:
        return f"could not be read: {self.reason}"


Problem = Damage | Unread


def twice(look: Callable[[], _T]) -> _T:
    """Look, and once more where the disk or the process failed; raises what the second raises."""
    try:
        return look()
    except errors.StorageError as e:
        if not failed(e):
            raise
    return look()


class Contents:
    """Remembers inodes: all links to a file are read with the first of them."""

    def __init__(self, storage: Storage, meter: Meter) -> None:
        self._storage = storage
        self._meter = meter
        self._problems: dict[tuple[_Key, Digest], Problem | None] = {}
        self._confirmed: set[tuple[_Key, Digest]] = set()
        self._whole: set[Digest] = set()
        self.bytes_read = 0

    def read(self, files: Iterable[tuple[Digest, File]]) -> None:
        """Hash what has not been hashed, without a lock; files may go meanwhile.

        What could not be read before is read again.
        """
        new = {(_key(file), digest): file for digest, file in files}
        wanted = [(key[1], file) for key, file in new.items() if not self._is_known(key)]
        self._meter.expect(sum(file.size for _, file in wanted))
        for (digest, file), problem in parallel.each(self._read, wanted):
            self._note(digest, file, problem)

    def _is_known(self, key: tuple[_Key, Digest]) -> bool:
        return key in self._problems and not isinstance(self._problems[key], Unread)

    def problem(self, digest: Digest, file: File) -> Problem | None:
        """Why a file cannot be what ``digest`` names; reads it now if it is new."""
        key = (_key(file), digest)
        if key not in self._problems:
            self._note(digest, file, self._read((digest, file)))
        return self._problems[key]

    def confirm(self, files: Iterable[tuple[Digest, File]]) -> None:
        """Read a second time what was damaged when it was read; without a lock."""
        for digest, file in files:
            key = (_key(file), digest)
            if key not in self._confirmed and isinstance(self._problems.get(key), Damage):
                again = self._read((digest, file))
                self._note(digest, file, again)
                if isinstance(again, Damage):
                    self._confirmed.add(key)

    def is_damaged(self, digest: Digest, file: File) -> bool:
        """Whether just this file was read whole, twice, and was wrong both times."""
        return (_key(file), digest) in self._confirmed

    def remedy(self, digest: Digest) -> Remedy:
        """What helps where a blob is damaged or missing: an intact copy, seen anywhere."""
        return Remedy.REPAIR if digest in self._whole else Remedy.FETCH

    def _note(self, digest: Digest, file: File, problem: Problem | None) -> None:
        self._problems[_key(file), digest] = problem
        self.bytes_read += file.size
        if problem is None:
            self._whole.add(digest)

    def _read(self, item: tuple[Digest, File]) -> Problem | None:
        digest, file = item
        try:
            return twice(lambda: self._hash(digest, file))
        except NotFound:
            return None  # deleted meanwhile; whether it is missed is another question
        except errors.StorageError as e:
            return Unread(e.reason)

    def _hash(self, digest: Digest, file: File) -> Damage | None:
        try:
            for chunk in VerifiedStream(self._storage.chunks(file.path), digest):
                self._meter.add(len(chunk))
        except errors.DigestMismatch as e:
            return Damage(e.actual)
        return None


def _key(file: File) -> _Key:
    return file.inode, file.size, file.modified
