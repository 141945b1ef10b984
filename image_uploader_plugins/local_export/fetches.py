# SPDX-License-Identifier: Apache-2.0
"""Fetches of blobs, one at a time for each, as long as it makes progress."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.pace import PATIENCE, SLOW_RATE
from image_uploader_plugins.storage import Lock, Storage

_LOOK = 0.05  # seconds between two looks
_TELL = 0.25  # seconds between two tellings


def pause(seconds: float) -> None:
    """Sleep for so many seconds."""
    time.sleep(seconds)


def clock() -> float:
    """Return the seconds of a clock that is never set."""
    return time.monotonic()


def lock_name(digest: Digest, number: int = 0) -> str:
    """Return the lock's name for fetching content; ``number`` counts fetches beside the first."""
    return f"fetch {digest} {number}"


class Fetch:
    """A fetch whose turn it is; where it is not the ``first``, an earlier one is slow or stuck."""

    def __init__(self, lock: Lock, *, first: bool = True) -> None:
        self._lock = lock
        self.first = first

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the same chunks, and tell waiting processes how many bytes have come."""
        total, told = 0, clock()
        for chunk in chunks:
            total += len(chunk)
            if clock() - told >= _TELL:
                self._lock.tell(total)
                told = clock()
            yield chunk


class _Watch:
    """A check whether the fetch that holds a lock makes progress."""

    def __init__(self, progress: int) -> None:
        self._progress = progress
        self._since = clock()

    def is_stuck(self, progress: int) -> bool:
        got = progress - self._progress
        if 0 <= got < SLOW_RATE * PATIENCE:
            return clock() - self._since >= PATIENCE
        # It is fast enough, or the lock belongs to the next fetch already.
        self._progress, self._since = progress, clock()
        return False


@contextlib.contextmanager
def turn(storage: Storage, digest: Digest) -> Iterator[Fetch]:
    """Wait until nobody else fetches ``digest``, or until that fetch is slow or stuck.

    Beside a slow fetch a second one begins, and later callers wait for the
    second: each fetch has a lock of its own, by number. A caller that has
    waited must look whether the content is there before it fetches.
    """
    for number in itertools.count():
        name = lock_name(digest, number)
        watch = None
        while True:
            with storage.try_lock(name, transient=True) as lock:
                if lock:
                    yield Fetch(lock, first=number == 0)
                    return
            watch = watch or _Watch(storage.lock_progress(name))
            if watch.is_stuck(storage.lock_progress(name)):
                break
            pause(_LOOK)
