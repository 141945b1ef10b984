# SPDX-License-Identifier: Apache-2.0
"""Which one of several threads works."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator


class Turns:
    """Turns, of which one thread at a time has the present one.

    Python runs one thread at a time: several that are never long without work
    only wait for each other.  But a step may have to wait for a disk.  So a
    thread works alone as long as none of its steps takes long, and loses its
    turn to another thread if one does.
    """

    def __init__(self) -> None:
        self._offered: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._present = 0
        self._began: dict[int, float] = {}

    def offer(self) -> None:
        """Begin the next turn, for whichever thread waits for one."""
        self._present += 1
        self._offered.put(self._present)

    def wait(self) -> int | None:
        """Return a turn when there is one for this thread, None at the end."""
        return self._offered.get()

    def is_present(self, turn: int) -> bool:
        """Return whether the thread that has ``turn`` is to go on."""
        return turn == self._present

    @contextlib.contextmanager
    def step(self, turn: int) -> Iterator[None]:
        """Let relieve() know of a step, which the block is."""
        self._began[turn] = time.monotonic()
        try:
            yield
        finally:
            del self._began[turn]

    def relieve(self, seconds: float) -> None:
        """Begin the next turn if a step of the present one takes longer than this."""
        began = self._began.get(self._present)
        if began is not None and time.monotonic() - began > seconds:
            self.offer()

    def end(self, threads: int) -> None:
        """Let no thread go on; this is the last call."""
        self._present = 0
        for _ in range(threads):
            self._offered.put(None)
