"""Text of strangers in messages for people: short, in one line, and printable.

What a registry or a file says may carry newlines that fake a line of a log,
escape sequences that a terminal obeys, or no end.
"""

from __future__ import annotations

import reprlib

_LIMIT = 1000  # characters
_CUT = " [...]"


def shown(value: object, limit: int = 200) -> str:
    """A value of any kind as Python writes it, in about ``limit`` characters."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = limit
    return one_line(short.repr(value), limit)


def one_line(text: str, limit: int = _LIMIT) -> str:
    """``text`` without its line breaks, and with escapes for what does not print."""
    words = " ".join(text[: 2 * limit].split())
    line = printable(words)
    return line if len(line) <= limit else line[: limit - len(_CUT)] + _CUT


def printable(text: str) -> str:
    """``text`` with escapes for every character that does not print."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
