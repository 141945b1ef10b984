# SPDX-License-Identifier: Apache-2.0
"""The divided lists that a process keeps from one operation to the next."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import PurePath

from image_uploader_plugins.local_export.views.windows import DividedList
from image_uploader_plugins.storage import File, fork

Identity = tuple[tuple[int, int], int, int, int]
"""Device and inode, size, and the times of modification and change of a list's file."""


def identity(file: File) -> Identity:
    """Return what differs between a file and every other that replaces or changes it."""
    return (file.inode, file.size, file.modified_ns, file.changed_ns)


@dataclasses.dataclass(frozen=True)
class KeptList:
    """A list, with the identity of the file that has it.

    ``ages`` are times of links to the windows after removed items, as far as
    they are known, in seconds since the epoch.
    """

    divided: DividedList
    identity: Identity
    ages: dict[str, float]


class KeptLists:
    """The lists that were used last, by the paths of their files.

    All lists together have at most ``limit`` items, where each list counts as
    some items more. Several threads may use it. A child of fork begins with no
    lists.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._renew()
        fork.in_child(self, KeptLists._renew)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        self._lists: dict[PurePath, KeptList] = {}
        self._total = 0

    def get(self, path: PurePath) -> KeptList | None:
        """Return the list of a file; None where none is kept."""
        with self._mutex:
            return self._lists.get(path)

    def take(self, path: PurePath) -> KeptList | None:
        """Return the list of a file, and keep it no longer."""
        with self._mutex:
            return self._take(path)

    def put(self, path: PurePath, kept: KeptList) -> None:
        """Keep a list, in the place of others that were not used for longest."""
        with self._mutex:
            self._take(path)
            self._lists[path] = kept
            self._total += _size(kept)
            while self._total > self._limit:
                self._take(next(iter(self._lists)))

    def _take(self, path: PurePath) -> KeptList | None:
        kept = self._lists.pop(path, None)
        self._total -= _size(kept) if kept else 0
        return kept


def _size(kept: KeptList) -> int:
    """Return what a list takes, in items."""
    return _OVERHEAD + len(kept.divided.items) + len(kept.divided.gone)


_OVERHEAD = 30

LIMIT = 200_000
"""The most items of all lists that a process keeps: about 30 MB."""

LISTS = KeptLists(LIMIT)
