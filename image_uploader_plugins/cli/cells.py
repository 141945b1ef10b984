# SPDX-License-Identifier: Apache-2.0
"""Cells of tables: words in a table for people, plain values in formats for programs."""

from __future__ import annotations

from collections.abc import Iterable

from cliff.columns import FormattableColumn

from image_uploader_plugins.text import one_line
from image_uploader_plugins.units import age, size

_LIMIT = 100  # characters of a stranger's text in a cell


class Size(FormattableColumn[int]):
    """A number of bytes."""

    def human_readable(self) -> str:
        return size(self._value)


class Age(FormattableColumn[int]):
    """A length of time in seconds."""

    def human_readable(self) -> str:
        return age(self._value)


class Words(FormattableColumn[list[str]]):
    """Several texts, a line each, cut to ``limit`` characters; a list for programs."""

    def __init__(self, words: Iterable[str], limit: int = _LIMIT) -> None:
        super().__init__([one_line(word, limit) for word in words])

    def human_readable(self) -> str:
        return "\n".join(self._value)


class Count(FormattableColumn[list[str]]):
    """Several things: how many there are in a table, a list of them for programs."""

    def human_readable(self) -> str:
        return str(len(self._value))
