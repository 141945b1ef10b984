# SPDX-License-Identifier: Apache-2.0
"""A meter: counts the bytes of some work, for progress and reports, and can stop it."""

from __future__ import annotations

import threading

from image_uploader_plugins import errors


class Meter:
    """Bytes, counted while they come or are read; safe to use from several threads.

    ``expected`` grows as work becomes known, also with what has to come
    again, and is ``done`` once all of it is.  What a part counts counts for
    the ``whole``, and stops with it.
    """

    def __init__(self, whole: Meter | None = None) -> None:
        self._whole = whole
        self._lock = threading.Lock()
        self._stopped = False
        self.done = 0
        self.expected = 0

    def expect(self, count: int) -> None:
        """Note that so many bytes more are to come, or less where ``count`` is negative."""
        with self._lock:
            self.expected += count
        if self._whole:
            self._whole.expect(count)

    def add(self, count: int) -> None:
        """Note that so many bytes came; raises Interrupted after stop()."""
        self.check()
        self._add(count)

    def _add(self, count: int) -> None:
        with self._lock:
            self.done += count
        if self._whole:
            self._whole._add(count)

    def check(self) -> None:
        """Raise Interrupted after stop()."""
        if self._stopped:
            raise errors.Interrupted("interrupted")
        if self._whole:
            self._whole.check()

    def stop(self) -> None:
        """Have all work end at its next piece; takes no lock, as signal handlers must not."""
        self._stopped = True
