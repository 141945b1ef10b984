# SPDX-License-Identifier: Apache-2.0
"""What a process keeps from one operation to the next, by paths."""

from __future__ import annotations

import abc
import threading
from pathlib import PurePath
from typing import Generic, TypeVar

from image_uploader_plugins.storage import fork

_T = TypeVar("_T")


class LastUsed(abc.ABC, Generic[_T]):
    """The things that were used last, in the place of what was not used for longest.

    Several threads may use it. A child of fork begins with nothing.
    """

    def __init__(self) -> None:
        self._renew()
        fork.in_child(self, LastUsed._renew)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        self._found: dict[PurePath | str, tuple[_T, int]] = {}
        self._total = 0

    @abc.abstractmethod
    def _size(self, kept: _T) -> int:
        """Return how much of the limit something takes."""

    @abc.abstractmethod
    def _is_too_much(self, count: int, total: int) -> bool:
        """Return whether so many things, of this size in all, are too much to keep."""

    def get(self, path: PurePath | str) -> _T | None:
        """Return what is kept for a path; None where that is nothing."""
        with self._mutex:
            return self._found[path][0] if path in self._found else None

    def take(self, path: PurePath | str) -> _T | None:
        """Return what is kept for a path, and keep it no longer."""
        with self._mutex:
            return self._take(path)

    def put(self, path: PurePath | str, kept: _T) -> None:
        """Keep something for a path."""
        with self._mutex:
            self._take(path)
            self._found[path] = kept, self._size(kept)
            self._total += self._found[path][1]
            while self._found and self._is_too_much(len(self._found), self._total):
                self._take(next(iter(self._found)))

    def _take(self, path: PurePath | str) -> _T | None:
        kept, size = self._found.pop(path, (None, 0))
        self._total -= size
        return kept
