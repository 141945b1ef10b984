# SPDX-License-Identifier: Apache-2.0
"""The bytes that may be read and unpacked from one archive: a bound against bombs."""

from __future__ import annotations

import threading
from collections.abc import Callable

# gzip gives at most 1032 bytes for one, others far more; layers are rarely more than ten.
RATIO = 100
FLOOR = 1024**3  # bytes, whatever the size of the archive


class Exceeded(ValueError):
    """An archive from which more bytes were unpacked or read than from any honest one."""


class Budget:
    """Bytes that may be had from an archive of ``size()`` bytes, all in all.

    A hundred times its size, and a GiB in any case.  ``verb`` says in an error
    what was done with them.  Safe to use from several threads.
    """

    def __init__(self, size: Callable[[], int], verb: str = "unpacks to") -> None:
        self._size = size
        self._verb = verb
        self._spent = 0
        self._limit = FLOOR
        self._lock = threading.Lock()

    def spend(self, count: int) -> None:
        """Count ``count`` bytes more; raises Exceeded."""
        with self._lock:
            self._spent += count
            if self._spent > self._limit:
                # Asked for late: for a directory it takes a look at every file.
                self._limit = max(FLOOR, RATIO * self._size())
            if self._spent > self._limit:
                raise Exceeded(f"{self._verb} more than {self._limit} bytes")
