# SPDX-License-Identifier: Apache-2.0
"""One fetch of a blob at a time, as long as it gets on."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.storage import Lock, Storage

RATE = 16 * 1024
"""Bytes a second that a fetch must get on by for others to wait for it."""

PATIENCE = 5.0
"""Seconds over which that is looked at."""

_LOOK = 0.05  # seconds between two looks
_TELL = 0.25  # seconds between two tellings


def pause(seconds: float) -> None:
    """Sleep for so many seconds."""
    time.sleep(seconds)


def clock() -> float:
    """Return the seconds of a clock that is never set."""
    return time.monotonic()


def lock_name(digest: Digest, number: int = 0) -> str:
    """Return the name of the lock for fetching content, of the first who does or one beside it."""
    return f"fetch {digest} {number}"


class Fetch:
    """A fetch that it is one's turn to make; others are slower where it is not the ``first``."""

    def __init__(self, lock: Lock, *, first: bool = True) -> None:
        self._lock = lock
        self.first = first

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the same chunks, and show those who wait that they come."""
        total, told = 0, clock() - _TELL
        for chunk in chunks:
            total += len(chunk)
            if clock() - told >= _TELL:
                self._lock.tell(total)
                told = clock()
            yield chunk


class _Watch:
    """Whether whoever holds a lock gets on."""

    def __init__(self, progress: int) -> None:
        self._progress = progress
        self._since = clock()

    def is_stuck(self, progress: int) -> bool:
        got = progress - self._progress
        if 0 <= got < RATE * PATIENCE:
            return clock() - self._since >= PATIENCE
        # Enough, or the progress of the next one already.
        self._progress, self._since = progress, clock()
        return False


@contextlib.contextmanager
def turn(storage: Storage, digest: Digest) -> Iterator[Fetch]:
    """Wait for whoever fetches ``digest`` at the moment, unless that is slow or stuck.

    Then there are two fetches, and those who come later wait for the second:
    each has a lock of its own, by number.  Whoever has waited looks whether
    the content has come before fetching it.
    """
    for number in itertools.count():
        name = lock_name(digest, number)
        watch = _Watch(storage.lock_progress(name))
        while True:
            with storage.try_lock(name, transient=True) as lock:
                if lock:
                    yield Fetch(lock, first=number == 0)
                    return
            if watch.is_stuck(storage.lock_progress(name)):
                break
            pause(_LOOK)
