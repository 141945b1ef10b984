"""Cells of tables: words for people, plain values for machines."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cliff.columns import FormattableColumn

from image_uploader_plugins.copying import size
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.text import one_line

Record = dict[str, Any]

# Formats that have neither lists nor escapes of their own.
FLAT = ("csv", "shell", "value")

_AGES = ((86400 * 365, "year"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SHORT = 12
_SHOWN = 3
_LONGEST = 300  # characters


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
        return f"{age(time.time() - self._value)} ago"

    def machine_readable(self) -> str:  # type: ignore[override]
        return rfc_3339(self._value)


class Short(FormattableColumn[str]):
    """A digest, of which people see the start."""

    def human_readable(self) -> str:
        return Digest(self._value).encoded[:_SHORT] if self._value else ""


class Text(FormattableColumn[str | None]):
    """Text of strangers, in one line for people."""

    def human_readable(self) -> str:
        return line(self._value or "")


class Words(FormattableColumn[list[str]]):
    """Several words: a list for machines."""

    def human_readable(self) -> str:
        return ", ".join(map(line, self._value))


class Lines(FormattableColumn[list[str]]):
    """Several sentences: a list for machines."""

    def human_readable(self) -> str:
        return "\n".join(map(line, self._value))


class Pairs(FormattableColumn[Mapping[str, str]]):
    """Names and what they stand for, by name."""

    def human_readable(self) -> str:
        return "\n".join(f"{line(name)}: {line(self._value[name])}" for name in sorted(self._value))


class Values(FormattableColumn[Mapping[str, str]]):
    """What names stand for; people can tell without them."""

    def human_readable(self) -> str:
        return "\n".join(map(line, self._value.values()))


class Records(FormattableColumn[list[Record]]):
    """Several things, each of which ``tell`` puts in a line for people."""

    def __init__(self, value: list[Record], tell: Callable[[Record], str]) -> None:
        super().__init__(value)
        self._tell = tell

    def human_readable(self) -> str:
        return "\n".join(line(self._tell(record)) for record in self._value)


class Count(FormattableColumn[list[str]]):
    """Several things: how many for people, which for machines."""

    def human_readable(self) -> str:
        return str(len(self._value))


class YesNo(FormattableColumn[bool]):
    """A truth."""

    def human_readable(self) -> str:
        return "yes" if self._value else "no"


def line(text: str) -> str:
    """Text of strangers as it may stand in a table."""
    return one_line(text, _LONGEST)


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
