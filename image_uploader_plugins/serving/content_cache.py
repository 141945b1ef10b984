# SPDX-License-Identifier: Apache-2.0
"""What was computed from small files, kept in memory as long as it is asked for."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")

# Of all that is kept, one value has at most this part.
_SHARE = 4


class ContentCache(Generic[_K, _V]):
    """The values that were asked for last, of at most ``limit`` bytes together; for all threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: collections.OrderedDict[_K, tuple[_V, int]] = collections.OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: _K, size: int, compute: Callable[[], _V]) -> _V:
        """Return the value for ``key``, which ``compute`` makes from ``size`` bytes.

        The key must tell each content from every other. What ``compute`` raises
        is raised, and nothing is kept.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
        value = compute()
        if size <= self._limit // _SHARE:
            self._keep(key, value, size)
        return value

    def _keep(self, key: _K, value: _V, size: int) -> None:
        with self._lock:
            if key not in self._values:
                self._size += size
            self._values[key] = value, size
            while self._size > self._limit:
                _, (_, oldest) = self._values.popitem(last=False)
                self._size -= oldest
