# SPDX-License-Identifier: Apache-2.0
"""The order of versions in tags: ``1.9`` before ``1.10``, ``1.10-rc1`` before ``1.10``.

Tags follow no grammar of versions, so this order takes what PEP 440, Semantic
Versioning 2.0, dates and build numbers have in common: numbers count as
numbers, and a few words are known to come before or after a release.
Everything else in a text says which *line* it belongs to: ``1.27`` and
``1.27-alpine`` are versions of two lines, and neither is newer.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Sequence

Numbers = tuple[int, ...]
Series = tuple[Numbers, tuple[Numbers, ...]]

# NOTE: int() refuses texts of more than 4300 digits; tags have 128 characters (OCI
# distribution-spec 1.1).
_LENGTH_LIMIT = 255

_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_V = re.compile(r"(?<![A-Za-z0-9])[vV](?=[0-9])")
# What git calls a commit, as "g1a2b3c4" and "1a2b3c4d", is neither a number nor a word.
_COMMIT = re.compile(
    r"(?<![A-Za-z0-9])g?(?=[0-9a-f]*[a-f])(?=[0-9a-f]*[0-9])[0-9a-f]{7,64}(?![A-Za-z0-9])"
)
# A date, a moment or the number of a build, which says nothing about "1.27".
_IS_LONG = re.compile(r"[0-9]{6,}")

# Before the release, PEP 440's and the words that projects use beside them; after it, "post".
_RELEASE = 5
_RANKS = {
    **dict.fromkeys(("dev", "snapshot", "nightly", "canary"), 0),
    **dict.fromkeys(("alpha", "a"), 1),
    **dict.fromkeys(("beta", "b"), 2),
    "milestone": 3,
    **dict.fromkeys(("rc", "c", "cr", "pre", "preview"), 4),
    "post": _RELEASE + 1,
}
# NOTE: one letter is a word just as PEP 440 writes it, "1.0a1": "1.0-b12" is a build.
_MARK = re.compile(
    r"(?:[._-]?(?P<word>dev|snapshot|nightly|canary|alpha|beta|milestone|rc|cr|preview|pre|post)"
    r"|(?P<letter>[abc](?=[0-9])))"
    r"(?:[._-]?(?P<numbers>[0-9]+(?:\.[0-9]+)*))?(?![A-Za-z0-9])",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True, order=True)
class Version:
    """A version in a text, to be compared within its ``line``.

    ``line`` is the text without what makes a version: ``#-alpine#`` of
    ``v1.27.3-alpine3.20``, with ``@`` for a long number (a date, a moment, a
    build).  ``numbers`` are the first ones of the text, without zeros at their
    end (PEP 440: ``1.0`` is ``1.0.0``), ``marks`` say how far before or after
    the release it is, and ``others`` are all further numbers.  Versions of
    different lines are ordered by their lines, so that the order is total.
    """

    line: str
    numbers: Numbers
    marks: tuple[tuple[int, Numbers], ...]
    others: tuple[Numbers, ...]
    written: Numbers = dataclasses.field(compare=False)
    """The first numbers as they are written."""

    @property
    def is_prerelease(self) -> bool:
        """Return whether it comes before a release, as ``1.10-rc1``."""
        return any(rank < _RELEASE for rank, _ in self.marks)

    @property
    def series(self) -> list[Series]:
        """Return all series that it belongs to: of ``1.27.3`` those of ``1`` and ``1.27``."""
        return [(self.written[:count], self.others) for count in range(1, len(self.written))]


@functools.lru_cache(maxsize=4096)
def version(text: str) -> Version | None:
    """Return the version in a text; None where it has no number, as ``latest`` has none.

    ``v`` before a number means nothing, and the hexadecimal name of a commit
    is no number: ``main-1a2b3c4-17`` is version 17 of the line ``main-?-#``.
    """
    if len(text) > _LENGTH_LIMIT:
        return None
    text = _V.sub("", _COMMIT.sub("?", text))
    first = _NUMBERS.search(text)
    if not first:
        return None
    marks, end = _marks(text, first)
    rest = text[end:]
    numbers = _integers(first[0])
    return Version(
        _shape(text[: first.end()]) + _shape(rest),
        _without_zeros(numbers),
        marks,
        tuple(_integers(found[0]) for found in _NUMBERS.finditer(rest)),
        numbers,
    )


def newest(texts: Iterable[str], count: int) -> set[str]:
    """Return those texts that have the ``count`` newest versions of each line.

    * Texts without a version are not among them.
    * Versions before a release are, just in a line that has no release.
    * Texts that mean the same version, as ``v1.27.0`` and ``1.27.0``, count as one.
    * The name of a series, as ``1.27`` beside ``1.27.3``, is not counted: it is among them
      if the newest of its series is.
    """
    lines = collections.defaultdict(list)
    for text in texts:
        if found := version(text):
            lines[found.line].append((text, found))
    return {text for line in lines.values() for text in _newest_of_line(line, count)}


def _newest_of_line(line: Sequence[tuple[str, Version]], count: int) -> Iterator[str]:
    releases = [each for each in line if not each[1].is_prerelease] or line
    named = {series for _, found in releases for series in found.series}
    single = {found for _, found in releases if (found.written, found.others) not in named}
    newest_first = sorted(single, reverse=True)
    kept = set(newest_first[:count])
    leaders: dict[Series, Version] = {}
    for found in newest_first:
        for series in found.series:
            leaders.setdefault(series, found)
    for text, found in releases:
        if leaders.get((found.written, found.others), found) in kept:
            yield text


def _marks(text: str, first: re.Match[str]) -> tuple[tuple[tuple[int, Numbers], ...], int]:
    """Return what follows the first numbers and is known, and where that ends."""
    found: list[tuple[int, Numbers]] = []
    end = first.end()
    while mark := _MARK.match(text, end):
        if mark["letter"] and "." not in first[0]:
            break
        rank = _RANKS[(mark["word"] or mark["letter"]).lower()]
        found.append((rank, _integers(mark["numbers"]) if mark["numbers"] else ()))
        end = mark.end()
    return (*found, (_RELEASE, ())), end


def _integers(text: str) -> Numbers:
    return tuple(map(int, text.split(".")))


def _without_zeros(numbers: Numbers) -> Numbers:
    while numbers and not numbers[-1]:
        numbers = numbers[:-1]
    return numbers


def _shape(text: str) -> str:
    return _NUMBERS.sub(lambda found: "@" if _IS_LONG.fullmatch(found[0]) else "#", text)
