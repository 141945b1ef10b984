"""How many bytes a run has moved so far and has to move, for whoever watches it."""

from __future__ import annotations

import threading

from image_uploader_plugins import errors


class Meter:
    """Bytes over the network, counted while they come; safe to use from several threads.

    ``expected`` grows with each manifest that is read, and with what has to
    come again.  It is never less than ``fetched`` once all is done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.fetched = 0
        self.expected = 0

    def expect(self, count: int) -> None:
        """So many bytes more are to come, or less where ``count`` is negative."""
        with self._lock:
            self.expected += count

    def add(self, count: int) -> None:
        """So many bytes came; raises Interrupted after stop()."""
        self.check()
        with self._lock:
            self.fetched += count

    def check(self) -> None:
        """Raises Interrupted after stop()."""
        if self._stopped.is_set():
            raise errors.Interrupted("stopped before it was done")

    def stop(self) -> None:
        """Have every transfer end at its next chunk."""
        self._stopped.set()
