# SPDX-License-Identifier: Apache-2.0
"""Ranges of semantic versions, as ``>=1.7, <2 || ^3.1``.

They mean what they mean in ``images-by-semver`` of skopeo, which reads them
with Masterminds' semver 3; the order is that of Semantic Versioning 2.0, 11.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import re
from collections.abc import Callable

from image_uploader_plugins import errors
from image_uploader_plugins.text import shown

_WORD = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_REST = rf"(?:-({_WORD}))?(?:\+{_WORD})?"
_VERSION = re.compile(rf"v?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?{_REST}")
_PART = r"([0-9]+|[xX*])"
_PARTIAL = rf"v?{_PART}(?:\.{_PART})?(?:\.{_PART})?{_REST}"
_OPERATOR = r"(!=|>=|=>|<=|=<|~>|[=<>~^]|)"
_COMPARISON = re.compile(rf"{_OPERATOR}\s*{_PARTIAL}(?=[\s,]|$)\s*,?\s*")
_HYPHEN = re.compile(rf"(?<!\S)({_PARTIAL})\s+-\s+({_PARTIAL})(?!\S)")
_LENGTH_LIMIT = 1000

_Numbers = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Version:
    """A version, or the first numbers of one: ``1.2`` in a range stands for ``1.2.x``."""

    given: _Numbers
    prerelease: str = ""

    @functools.cached_property
    def numbers(self) -> _Numbers:
        return (*self.given, 0, 0, 0)[:3]

    @functools.cached_property
    def precedence(self) -> tuple[_Numbers, tuple[tuple[int, int, str], ...]]:
        """Return what versions are ordered by (Semantic Versioning 2.0, 11)."""
        if not self.prerelease:
            return self.numbers, ((2, 0, ""),)
        words = self.prerelease.split(".")
        return self.numbers, tuple((0, int(w), "") if w.isdigit() else (1, 0, w) for w in words)

    @property
    def is_partial(self) -> bool:
        return len(self.given) < 3

    def begins(self, other: _Version, count: int = 3) -> bool:
        """Return whether another version has the same first numbers, ``count`` at most."""
        first = self.given[:count]
        return other.numbers[: len(first)] == first


_Test = Callable[[_Version, _Version], bool]


def _compared(compare: Callable[..., bool], *, wholly: bool = False) -> _Test:
    """Return a comparison; ``wholly`` with all of 1.2.x, where the range says ``1.2``."""

    def test(version: _Version, bound: _Version) -> bool:
        if wholly and bound.is_partial:
            return compare(version.numbers[: len(bound.given)], bound.given)
        return compare(version.precedence, bound.precedence)

    return test


def _is_equal(version: _Version, bound: _Version) -> bool:
    """Return whether a version is the other one, or one of those that a partial one stands for."""
    if bound.is_partial:
        return version.precedence >= bound.precedence and bound.begins(version)
    return version.precedence == bound.precedence


def _is_in_series(version: _Version, bound: _Version) -> bool:
    """Return whether a version is not before another, and of the same minor version."""
    return version.precedence >= bound.precedence and bound.begins(version, 2)


def _is_compatible(version: _Version, bound: _Version) -> bool:
    """Return whether a version is not before another, with the same first number that is not 0."""
    zeros = 0
    while zeros < 2 and bound.numbers[zeros] == 0:
        zeros += 1
    return version.precedence >= bound.precedence and bound.begins(version, zeros + 1)


_TESTS: dict[str, _Test] = {
    "": _is_equal,
    "=": _is_equal,
    "!=": lambda version, bound: not _is_equal(version, bound),
    ">": _compared(operator.gt, wholly=True),
    ">=": _compared(operator.ge),
    "=>": _compared(operator.ge),
    "<": _compared(operator.lt),
    "<=": _compared(operator.le, wholly=True),
    "=<": _compared(operator.le, wholly=True),
    "~": _is_in_series,
    "~>": _is_in_series,
    "^": _is_compatible,
}


class SemverRange:
    """A range of semantic versions; raises InvalidReference for a text that is none.

    Comparisons follow each other with spaces or commas, and all of them hold;
    ``||`` is between alternatives.  A version before a release, which is what
    a suffix as in ``1.27-alpine`` makes of it, is in an alternative only if
    that names one: ``>=1.27-0``.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _LENGTH_LIMIT:
            raise errors.InvalidReference(f"a range of versions is too long: {shown(text, 50)}")
        self.text = text
        self._alternatives = [_comparisons(part, text) for part in text.split("||")]

    def has(self, tag: str) -> bool:
        """Return whether a tag is a version in this range; ``v`` may stand before it."""
        match = _VERSION.fullmatch(tag)
        if not match or len(tag) > _LENGTH_LIMIT:
            return False
        version = _Version(tuple(int(part or 0) for part in match.groups()[:3]), match[4] or "")
        return any(_holds(version, comparisons) for comparisons in self._alternatives)


def _holds(version: _Version, comparisons: list[tuple[str, _Version]]) -> bool:
    if version.prerelease and not any(bound.prerelease for _, bound in comparisons):
        return False
    return all(_TESTS[sign](version, bound) for sign, bound in comparisons)


def _comparisons(part: str, text: str) -> list[tuple[str, _Version]]:
    rest = _HYPHEN.sub(lambda match: f">={match[1]} <={match[6]}", part.strip())
    found = []
    while match := _COMPARISON.match(rest):
        found.append((match[1], _partial(*match.groups()[1:])))
        rest = rest[match.end() :]
    if rest or not found:
        raise errors.InvalidReference(
            f"not a range of versions: {shown(text, 100)}; one is '>=1.7 <2', '~1.8', '^2.1', "
            "'1.8.x', '1.7 - 1.9' or '1.8 || 1.9'"
        )
    return found


def _partial(major: str, minor: str | None, patch: str | None, prerelease: str | None) -> _Version:
    given: list[int] = []
    for part in (major, minor, patch):
        if part is None or not part.isdigit():
            break
        given.append(int(part))
    return _Version(tuple(given), prerelease or "")
