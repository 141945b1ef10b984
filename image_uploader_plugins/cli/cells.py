"""Cells of tables: words for people, plain values for machines."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from cliff.columns import FormattableColumn

from image_uploader_plugins.copying.copier import size
from image_uploader_plugins.text import one_line

_UNITS = ((86400 * 365, "year"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_LIMIT = 100  # characters of a stranger's text in a cell


class Size(FormattableColumn[int]):
    """Bytes."""

    def human_readable(self) -> str:
        return size(self._value)


class Age(FormattableColumn[int]):
    """Seconds."""

    def human_readable(self) -> str:
        return age(self._value)


class Words(FormattableColumn[list[str]]):
    """Several words, of strangers up to ``limit`` characters; for machines, a list of them."""

    def __init__(self, words: Iterable[str], limit: int = _LIMIT) -> None:
        super().__init__([one_line(word, limit) for word in words])

    def human_readable(self) -> str:
        return "\n".join(self._value)


class Count(FormattableColumn[list[str]]):
    """Several things: how many for people, which for machines."""

    def human_readable(self) -> str:
        return str(len(self._value))


def plural(count: int, noun: str) -> str:
    """A number of things in words."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def age(seconds: int) -> str:
    """A length of time in its largest whole unit."""
    for length, unit in _UNITS:
        if seconds >= length:
            return plural(seconds // length, unit)
    return plural(0, "second")


def rfc_3339(seconds: float) -> str:
    """A moment in UTC, to the second; an empty text where a calendar does not reach."""
    try:
        moment = datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return ""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
