# SPDX-License-Identifier: Apache-2.0
"""The blobs of all images of a run on their way, by a bounded number of threads."""

from __future__ import annotations

import concurrent.futures
import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Self

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.pace import PATIENCE, SLOW_RATE

WORKERS = 8
"""Blobs that come at once."""


class Transfer:
    """One blob on its way, of which ``received`` bytes have come, in vain or not.

    One that ``is_stuck`` is waited for by nobody but its own image; one that
    ``is_throttled`` is slow as the operator wants it, and not stuck.
    """

    def __init__(self, work: Callable[[Transfer], object], patience: float) -> None:
        self.received = 0
        self.is_stuck = False
        self.is_throttled = False
        self.future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._work = work
        self._patience = patience

    def run(self) -> None:
        """Do the work, unless it was cancelled; ``future`` says how it ended."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self._work(self)
        except BaseException as e:  # told to whoever waits
            self.future.set_exception(e)
        else:
            self.future.set_result(None)

    def wait(self) -> bool:
        """Wait for its end as long as it makes progress; return whether it succeeded."""
        while True:
            before = self.received
            try:
                return self.future.exception(self._patience) is None
            except concurrent.futures.CancelledError:
                return False
            except TimeoutError:
                slow = self.received - before < SLOW_RATE * self._patience
                if self.future.running() and slow and not self.is_throttled:
                    self.is_stuck = True
                    return False


class Transfers:
    """The transfers of a run: as many at once as there are ``workers``, the largest first.

    What one image waits for, another one may have begun: each content is on
    its way once, unless that transfer is stuck for ``patience`` seconds.  Safe
    to use from several threads; as a context manager it ends its threads.
    """

    def __init__(self, workers: int = WORKERS, patience: float = PATIENCE) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(workers, "blob")
        self._patience = patience
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._queue: list[tuple[int, int, Digest, Transfer]] = []
        self._known: dict[Digest, Transfer] = {}

    def begin(self, blob: Descriptor, work: Callable[[Transfer], object]) -> tuple[Transfer, bool]:
        """Return the transfer of a blob, and whether it is a new one, for which ``work`` is called.

        That gets the transfer, to count in.  Raises Interrupted after close().
        """
        with self._lock:
            known = self._known.get(blob.digest)
            if known and not (known.is_stuck or known.future.done()):
                return known, False
            new = self._known[blob.digest] = Transfer(work, self._patience)
            heapq.heappush(self._queue, (-(blob.size or 0), next(self._numbers), blob.digest, new))
            try:
                self._pool.submit(self._run_largest)
            except RuntimeError as e:  # an image that was not waited for
                raise errors.Interrupted("interrupted") from e
        return new, True

    def _run_largest(self) -> None:
        with self._lock:
            _, _, digest, transfer = heapq.heappop(self._queue)
        try:
            transfer.run()
        finally:
            with self._lock:
                if self._known.get(digest) is transfer:
                    del self._known[digest]

    def close(self, *, wait: bool = True) -> None:
        """End the threads: now where ``wait``, or else once they have done what was begun."""
        self._pool.shutdown(wait=wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def shared(given: Transfers | None) -> Iterator[Transfers]:
    """Return the given transfers, or else new ones that end with the context."""
    if given:
        yield given
        return
    with Transfers() as own:
        yield own
