# SPDX-License-Identifier: Apache-2.0
"""Numbers in words: sizes, counts, lengths of time, moments."""

from __future__ import annotations

import datetime

_PREFIXES = "kMGT"
_PERIODS = ((86400 * 365, "year"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def size(count: float) -> str:
    """Return a number of bytes for people, in powers of 1000: ``1.5 kB``."""
    if count < 1000:
        return f"{count:.0f} B"
    units = ["kB", "MB", "GB", "TB"]
    while (count := count / 1000) >= 1000 and len(units) > 1:
        units.pop(0)
    return f"{count:.1f} {units[0]}"


def parse_size(text: str) -> int:
    """Return the bytes of a number that may end with k, M, G or T, powers of 1000: ``10M``.

    Raises ValueError.
    """
    power = _PREFIXES.find(text[-1:]) + 1 if text else 0
    factor: int = 1000**power
    return int(text[:-1] if power else text) * factor


def plural(count: int, noun: str) -> str:
    """Return a number of things: ``1 image``, ``2 images``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def age(seconds: int) -> str:
    """Return a length of time in its largest whole unit: ``3 days``."""
    for length, unit in _PERIODS:
        if seconds >= length:
            return plural(seconds // length, unit)
    return plural(0, "second")


def clock(seconds: float) -> str:
    """Return a length of time as a clock shows it: ``0:07``, ``1:02:03``; no less than 0."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def rfc_3339(seconds: float) -> str:
    """Return a moment, in seconds since the epoch, as RFC 3339 has it: in UTC, to the second.

    The text is empty for a moment that no calendar reaches.
    """
    try:
        moment = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
