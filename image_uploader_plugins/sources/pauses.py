# SPDX-License-Identifier: Apache-2.0
"""Pauses: all threads together ask a registry no faster than it and the operator want.

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
from image_uploader_plugins.pace import LONGEST_PAUSE
from image_uploader_plugins.sources.registry_rules import RegistryRules

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
_MINUTE = 60.0  # seconds
_AT_ONCE = 0.1  # of what is allowed a minute
_AWAY_FIRST, _AWAY_LONGEST = 10.0, 300.0  # seconds for which nobody asks who does not answer
_CREDIT = 1.0  # seconds whose bytes may come together where fewer came before


class _Turns:
    """Turns of which there are at most ``count`` in any minute, and few at once; 0 is no limit."""

    def __init__(self, count: int) -> None:
        at_once = max(1, int(count * _AT_ONCE))
        self._distance = _MINUTE / (count - at_once + 1) if count else 0.0
        self._ahead = (at_once - 1) * self._distance
        self._even = float("-inf")  # when the next one would be due if all had kept the distance

    def next(self) -> float:
        """Return the moment of the next turn, which may be over."""
        return self._even - self._ahead

    def take(self, now: float) -> None:
        """Note that somebody has taken a turn."""
        self._even = max(self._even, now) + self._distance


class Pauses:
    """The pauses of one registry, for all threads and images.

    After a 429 or 503 nobody asks until the time is over, and requests keep a
    distance that grows with each refusal and shrinks with each success.
    ``rules`` have limits of the operator's: waiting for these is no failure of
    anybody.
    """

    def __init__(
        self,
        registry: str,
        total: float = LONGEST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        rules: RegistryRules | None = None,
    ) -> None:
        self._registry = registry
        self._total = total
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._until = 0.0
        self._next = 0.0
        self._distance = 0.0
        self._refusals = 0
        self._refused_at = float("-inf")
        rules = rules or RegistryRules()
        self._unanswered = 0
        self._away_until = float("-inf")
        self._turns = _Turns(rules.requests_per_minute)
        self._rate = rules.bytes_per_second
        self._paid = float("-inf")
        at_once = rules.requests_at_once
        self._slots = threading.Semaphore(at_once) if at_once else None

    def now(self) -> float:
        """Return the moment, by the clock."""
        return self._clock()

    def wait(
        self, check: Callable[[], None], excuse: Callable[[float], object] = lambda _: None
    ) -> float:
        """Wait for the turn of a request; returns the moment, by the clock.

        ``check`` is called meanwhile, and ends the wait by raising; ``excuse``
        is told of the seconds for which only the operator had it wait.
        """
        while True:
            with self._lock:
                now = self._clock()
                # Somebody else may be refused, or come first, while this one waits.
                wanted = max(now, self._until, self._next)
                turn = max(wanted, self._turns.next())
                if turn <= now:
                    self._next = now + self._distance
                    self._turns.take(now)
                    return now
            wait_until(turn, check, self._clock, self._sleep)
            excuse(turn - wanted)

    def unanswered(self) -> None:
        """Take in that a request had no answer: for a while the registry is away."""
        with self._lock:
            self._unanswered += 1
            away = min(_AWAY_LONGEST, _AWAY_FIRST * 2 ** min(self._unanswered - 1, 10))
            self._away_until = self._clock() + away

    def answered(self) -> None:
        """Take in that a request had an answer, of whatever kind."""
        with self._lock:
            self._unanswered, self._away_until = 0, float("-inf")

    def is_away(self) -> bool:
        """Return whether the registry is away, as far as anybody knows."""
        with self._lock:
            return self._clock() < self._away_until

    def enter(self, check: Callable[[], None]) -> Callable[[], object]:
        """Wait until one request more may be under way; return what says that it has ended.

        ``check`` is called meanwhile, and ends the wait by raising.
        """
        if self._slots is None:
            return lambda: None
        while not self._slots.acquire(timeout=_PIECE):
            check()
        return self._slots.release

    def spend(self, count: int) -> float:
        """Note that so many bytes came; return the moment from which on more may come.

        Only where the operator limits their rate.
        """
        with self._lock:
            self._paid = max(self._paid, self._clock() - _CREDIT) + count / self._rate
            return self._paid

    def wait_until(self, moment: float, check: Callable[[], None]) -> float:
        """Wait for a moment, as wait() does; return for how many seconds."""
        begun = self._clock()
        wait_until(moment, check, self._clock, self._sleep)
        return self._clock() - begun

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
    left = _amount(headers, "Remaining")
    if left is None:
        return 0.0
    limit = _amount(headers, "Limit")
    if left >= max(_SCARCE * (limit or 0), 1 if limit else _FEW):
        return 0.0
    reset = _amount(headers, "Reset")
    # Some tell a moment, and not for how long.
    reset = None if reset is None or reset > _DAY else reset
    return _SLOW if reset is None else min(_SLOWEST, max(_STEP, reset / (left + 1)))


def _amount(headers: Mapping[str, str], name: str) -> int | None:
    for named in (f"RateLimit-{name}", f"X-RateLimit-{name}"):
        # Hardly any answer has them, and to get what is missing takes much longer.
        if told := named in headers and headers[named]:
            number = told.partition(";")[0].partition(",")[0].strip()
            return int(number[:12]) if number.isascii() and number.isdecimal() else None
    return None
