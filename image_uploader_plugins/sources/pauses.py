# SPDX-License-Identifier: Apache-2.0
"""Pauses: all threads together ask a registry no faster than it wants.

Source: RFC 9110, 10.2.3 (Retry-After), 15.5.30 and 15.6.4 (429 and 503).
"""

from __future__ import annotations

import datetime
import email.utils
import random
import threading
import time
from collections.abc import Callable, Mapping

from image_uploader_plugins import errors

TOTAL = 15 * 60
"""Seconds that one request may be asked to wait for, altogether."""

_FIRST, _LONGEST = 1.0, 60.0  # seconds, where a registry does not say
_SLOWEST = 5.0  # seconds between two requests
_SLOWER, _FASTER = 1.5, 0.97
_STEP = 0.1
_SCARCE = 0.1  # of a limit that is left
_FEW = 10  # requests that are left, where the limit is not told
_SLOW = 1.0  # seconds between two requests, where it is not told when there is more
_DAY = 24 * 60 * 60
_SINCE_1970 = 1e9  # more seconds than that, about 30 years, are a moment
_PIECE = 0.2  # seconds after which a wait looks whether it is to end


class Pauses:
    """The pauses of one registry, for all threads and images.

    After a 429 or 503 nobody asks until the time is over, and requests keep a
    distance that grows with each refusal and shrinks with each success.
    """

    def __init__(
        self,
        registry: str,
        total: float = TOTAL,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._registry = registry
        self._total = total
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._until = 0.0
        self._next = 0.0
        self._distance = 0.0
        self._pauses = 0
        self._refusals = 0
        self._refused_at = float("-inf")

    def now(self) -> float:
        """Return the moment, by the clock."""
        return self._clock()

    def wait(self, check: Callable[[], None]) -> float:
        """Wait for the turn of a request; returns the moment, by the clock.

        ``check`` is called meanwhile, and ends the wait by raising.
        """
        while True:
            with self._lock:
                turn = max(self._clock(), self._until, self._next)
                self._next = turn + self._distance
                pauses = self._pauses
            wait_until(turn, check, self._clock, self._sleep)
            with self._lock:
                if pauses == self._pauses:
                    return turn
            # Somebody else was refused meanwhile: all line up anew.

    def refused(self, headers: Mapping[str, str], turn: float, begun: float) -> None:
        """Take in that the request of that ``turn``, first made at ``begun``, was refused for now.

        Raises RateLimited where it would have to wait for more than the total.
        """
        with self._lock:
            now = self._clock()
            # Requests that were on their way together are refused together, and count once.
            if turn >= self._refused_at:
                self._refusals += 1
                self._refused_at = now
                self._distance = min(_SLOWEST, max(_STEP, self._distance * _SLOWER))
            asked = retry_after(headers.get("Retry-After", ""))
            delay = asked
            if delay is None:
                delay = min(_LONGEST, _FIRST * 2 ** min(self._refusals - 1, 10))
            if now - begun + delay > self._total:
                raise errors.RateLimited(self._registry, now - begun + delay, self._total)
            # Others wait for the same moment.
            delay += random.uniform(0, min(1.0, 0.1 * delay + _STEP))  # noqa: S311 - no secret
            self._until = self._next = max(self._until, now + delay)
            self._pauses += 1

    def succeeded(self, headers: Mapping[str, str]) -> None:
        """Take in that a request was answered."""
        with self._lock:
            self._refusals = 0
            self._distance *= _FASTER
            if self._distance < _STEP / 10:
                self._distance = 0.0
            self._distance = max(self._distance, _scarcity(headers))


def wait_until(
    moment: float,
    check: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait for a moment by the clock; ``check`` is called meanwhile, and ends it by raising."""
    while (left := moment - clock()) > 0:
        check()
        sleep(min(left, _PIECE))


def retry_after(text: str, now: Callable[[], float] = time.time) -> float | None:
    """Return the seconds that a Retry-After asks for, as a number or a date; None for neither."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        seconds = float(text[:18])
        # NOTE: Docker Hub is known to write the moment, in seconds since 1970.
        return seconds if seconds < _SINCE_1970 else max(0.0, seconds - now())
    try:
        moment = email.utils.parsedate_to_datetime(text)
        # NOTE: one of HTTP's three forms names no zone, and means UTC (RFC 9110, 5.6.7).
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        return max(0.0, zoned.timestamp() - now())
    except (TypeError, ValueError, OverflowError):
        return None


def _scarcity(headers: Mapping[str, str]) -> float:
    """Return the seconds between requests by which what is left of a limit is not used up at once.

    Limits are told as "100;w=21600" (Docker Hub), or as mere numbers with or
    without an "X-" (draft-ietf-httpapi-ratelimit-headers).
    """
    limit, left = (_amount(headers, name) for name in ("Limit", "Remaining"))
    if left is None or left >= max(_SCARCE * (limit or 0), 1 if limit else _FEW):
        return 0.0
    reset = _amount(headers, "Reset")
    # Some tell a moment, and not for how long.
    reset = None if reset is None or reset > _DAY else reset
    return _SLOW if reset is None else min(_SLOWEST, max(_STEP, reset / (left + 1)))


def _amount(headers: Mapping[str, str], name: str) -> int | None:
    told = headers.get(f"RateLimit-{name}") or headers.get(f"X-RateLimit-{name}") or ""
    number = told.partition(";")[0].partition(",")[0].strip()
    return int(number[:12]) if number.isascii() and number.isdecimal() else None
