# SPDX-License-Identifier: Apache-2.0
"""Limits for what is slow: when it is given up, who waits for it, and for how long at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from image_uploader_plugins import errors

MINIMUM_RATE = 1024
"""Bytes a second, on average."""

DEADLINE = 6 * 60 * 60
"""Seconds for one answer, however many bytes it has."""

READ_TIMEOUT = 300.0
"""Seconds for the first byte of an answer: caches ask others first."""

LONGEST_PAUSE = 15 * 60
"""Seconds that one request may be asked to wait for, altogether."""

SLOW_RATE = 16 * 1024
"""Bytes a second below which nobody waits any more for what another one fetches."""

PATIENCE = 5.0
"""Seconds over which SLOW_RATE is measured."""

LONGEST_WAIT = 0.5
"""Seconds for which the main thread waits at once.

A signal that comes just before a wait or a read begins does not end it, and
Python runs its handler when it is over.
"""

_WINDOW = 30.0  # seconds of waiting for a server that are looked at together


class Limits(NamedTuple):
    """The limits for one answer of a server; 0 switches a limit off.

    ``minimum_rate`` in bytes a second, ``deadline`` in seconds for the whole
    answer.
    """

    minimum_rate: int = MINIMUM_RATE
    deadline: int = DEADLINE


class Pace:
    """One answer of ``server``, from the first byte on.

    Only the time that is spent in waiting for the server counts for its
    rate, in windows of 30 seconds: a target that is slow is not its fault.
    Who is slow before the first byte ends by the timeout for one.
    """

    def __init__(
        self, server: str, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._limits = limits
        self._clock = clock
        self._began = self._since = clock()
        self._received = 0
        self._waited = 0.0
        self._has_begun = False

    def wait(self) -> None:
        """Say that the server is waited for from now on."""
        self._since = self._clock()

    def excuse(self, seconds: float) -> None:
        """Say that for so many seconds nobody wanted anything from the server."""
        self._began += seconds

    def arrived(self, count: int) -> None:
        """Say that so many bytes came; raises TransferTooSlow if the server is to be given up."""
        now = self._clock()
        if not count:
            return  # the end: what comes late has come
        if self._limits.deadline and now - self._began >= self._limits.deadline:
            raise errors.TransferTooSlow(
                self._server,
                f"not done after {self._limits.deadline} seconds ([image_uploader] "
                "transfer_deadline)",
                retryable=False,
            )
        if self._has_begun:
            self._count(count, now - self._since)
        self._has_begun = True

    def _count(self, count: int, waited: float) -> None:
        self._received += count
        self._waited += waited
        if self._waited < _WINDOW:
            return
        if self._received < self._limits.minimum_rate * self._waited:
            raise errors.TransferTooSlow(
                self._server,
                f"{self._received} bytes in {self._waited:.0f} seconds, which is less than "
                f"{self._limits.minimum_rate} bytes a second ([image_uploader] minimum_rate)",
            )
        self._received, self._waited = 0, 0.0
