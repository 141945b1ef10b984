# SPDX-License-Identifier: Apache-2.0
"""Which repositories this process has brought in line, so that it need not look at each tag."""

from __future__ import annotations

import time
from collections.abc import Callable

from image_uploader_plugins.local_export.last_used import LastUsed
from image_uploader_plugins.storage import File

_Identity = tuple[tuple[int, int], int, int]

TRUSTED_FOR = 60.0
"""Seconds after which a repository is looked at again.

NOTE: other tools take none of our locks. What one of them writes in the moment
between our last change and our look at the folder is noticed only then.
"""

_LIMIT = 10_000  # repositories


def clock() -> float:
    """Return the seconds of a clock that is never set."""
    return time.monotonic()


class Tidied(LastUsed[tuple[list[_Identity], float]]):
    """The folders of repositories as this process left them, by path, and when that was.

    A name that comes or goes changes the times of its folder.
    """

    def remember(self, path: str, folders: list[File | None]) -> None:
        """Remember the folders of a repository as they are now."""
        self.put(path, (_identities(folders), clock()))

    def is_unchanged(self, path: str, look: Callable[[], list[File | None]]) -> bool:
        """Return whether ``look`` returns the folders as they were remembered a moment ago."""
        found = self.get(path)
        if found is None or clock() - found[1] > TRUSTED_FOR:
            return False
        return _identities(look()) == found[0]

    def _size(self, kept: tuple[list[_Identity], float]) -> int:
        return 1

    def _is_too_much(self, count: int, total: int) -> bool:
        return count > _LIMIT


def _identities(folders: list[File | None]) -> list[_Identity]:
    return [(f.inode, f.modified_ns, f.changed_ns) for f in folders if f]


TIDIED = Tidied()
