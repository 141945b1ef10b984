"""Cells of tables: words for people, plain values for machines."""

from __future__ import annotations

from collections.abc import Iterable

from cliff.columns import FormattableColumn

from image_uploader_plugins.text import one_line
from image_uploader_plugins.units import age, size

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
