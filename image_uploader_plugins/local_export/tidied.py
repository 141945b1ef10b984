# SPDX-License-Identifier: Apache-2.0
"""Which repositories this process has brought in line, so that it need not look at each tag."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from image_uploader_plugins.storage import File, fork

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


class Tidied:
    """Folders as this process left them, by path; a child of fork begins with none.

    A name that comes or goes changes the times of its folder.
    """

    def __init__(self) -> None:
        self._renew()
        fork.in_child(self, Tidied._renew)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        self._known: dict[str, tuple[list[_Identity], float]] = {}

    def remember(self, path: str, folders: list[File | None]) -> None:
        """Remember the folders of a repository as they are now."""
        with self._mutex:
            self._known.pop(path, None)
            self._known[path] = (_identities(folders), clock())
            if len(self._known) > _LIMIT:
                del self._known[next(iter(self._known))]

    def is_unchanged(self, path: str, look: Callable[[], list[File | None]]) -> bool:
        """Return whether ``look`` returns the folders as they were remembered a moment ago."""
        with self._mutex:
            found = self._known.get(path)
        if found is None or clock() - found[1] > TRUSTED_FOR:
            return False
        return _identities(look()) == found[0]


def _identities(folders: list[File | None]) -> list[_Identity]:
    return [(f.inode, f.modified_ns, f.changed_ns) for f in folders if f]


TIDIED = Tidied()
