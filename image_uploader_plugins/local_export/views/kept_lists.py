# SPDX-License-Identifier: Apache-2.0
"""The divided lists that a process keeps from one operation to the next."""

from __future__ import annotations

from typing import NamedTuple

from image_uploader_plugins.local_export.last_used import LastUsed
from image_uploader_plugins.local_export.views.windows import DividedList
from image_uploader_plugins.storage import File

Identity = tuple[tuple[int, int], int, int, int]
"""Device and inode, size, and the times of modification and change of a list's file."""


def identity(file: File) -> Identity:
    """Return what differs between a file and every other that replaces or changes it."""
    return (file.inode, file.size, file.modified_ns, file.changed_ns)


class KeptList(NamedTuple):
    """A list, with the identity of the file that has it.

    ``ages`` are times of links to the windows after removed items, as far as
    they are known, in seconds since the epoch.
    """

    divided: DividedList
    identity: Identity
    ages: dict[str, float]


class KeptLists(LastUsed[KeptList]):
    """The lists that were used last, by the paths of their files.

    All lists together have at most ``limit`` items, where each list counts as
    some items more.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def _size(self, kept: KeptList) -> int:
        return _OVERHEAD + len(kept.divided.items) + len(kept.divided.gone)

    def _is_too_much(self, count: int, total: int) -> bool:
        return total > self._limit


_OVERHEAD = 30

LIMIT = 200_000
"""The most items of all lists that a process keeps: about 30 MB."""

LISTS = KeptLists(LIMIT)
