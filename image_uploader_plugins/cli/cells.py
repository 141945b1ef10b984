"""Cells of tables: words for people, plain values for machines."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence

from cliff.columns import FormattableColumn

from image_uploader_plugins.copying import size
from image_uploader_plugins.digest import Digest

_AGES = ((86400 * 365, "year"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SHORT = 12
_SHOWN = 3


def some(names: Sequence[str], shown: int = _SHOWN) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class Size(FormattableColumn[int]):
    """Bytes."""

    def human_readable(self) -> str:
        return size(self._value)


class Moment(FormattableColumn[float]):
    """Seconds since the epoch: how long ago for people, RFC 3339 in UTC for machines."""

    def human_readable(self) -> str:
        return age(time.time() - self._value)

    def machine_readable(self) -> str:  # type: ignore[override]
        return rfc_3339(self._value)


class Short(FormattableColumn[str]):
    """A digest, of which people see the start."""

    def human_readable(self) -> str:
        return Digest(self._value).encoded[:_SHORT] if self._value else ""


class Words(FormattableColumn[list[str]]):
    """Several words: a list for machines."""

    def human_readable(self) -> str:
        return ", ".join(self._value)


class Count(FormattableColumn[list[str]]):
    """Several things: how many for people, which for machines."""

    def human_readable(self) -> str:
        return str(len(self._value))


class Mark(FormattableColumn[bool]):
    """Yes or no."""

    def human_readable(self) -> str:
        return "*" if self._value else ""


def age(seconds: float) -> str:
    """A length of time in its largest whole unit; what lies in the future is 0 seconds old."""
    for length, unit in _AGES:
        if seconds >= length:
            return plural(int(seconds // length), unit)
    return plural(0, "second")


def rfc_3339(seconds: float) -> str:
    """A moment in UTC, to the second; an empty text where a calendar does not reach."""
    try:
        moment = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
