# SPDX-License-Identifier: Apache-2.0
"""The windows of a sorted list, computed by pure functions.

Source: OCI distribution-spec 1.1, "Listing Tags". A window may hold fewer items
than a client asked for as long as a ``Link`` leads to the next.

The list is divided into windows in several ways: into windows of one item, of
up to 4, 16, 22, 31, 43 and so on, each about 1.4 times as long as the one
before, and into 8, 5, 3 and 2 parts. A client gets the windows of the coarsest
division whose longest window is not longer than it asked for. Every window but
the last has at least 0.74 times the items that it may have, so a client never
gets more than 2 T / n windows, with T items in all.

A window ends, among the last items that it may hold, with the one whose
checksum is the largest. So the ends of windows depend on the items alone, never
on the order in which they came. An item that comes or goes changes the window
that contains it, rarely the end of that window, and hardly ever more than a few
windows after it. Windows of different divisions often end with the same item,
so a client that continues after any item gets to long windows after a few short
ones.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence

# No item begins with a dot.
START = ".start"
END = ".end"
NONE = ".none"

HEADS, TAILS, GONE = ".heads", ".tails", ".gone"

FEW = 15
"""The most items for which a client gets exactly as many as it asked for, at the start."""

MANY = 32
"""The longest list that has, for each item, a window of all items after it."""

REMEMBERED = 256
"""How many removed items are remembered, for clients that continue after one of them."""

# The longest windows of the divisions; the two finest lead clients to the others.
_FIRST = 16
_RATIO = 1.4
_SHORTEST = 0.74
_FINE = {1: 1, 4: 2}
# For few windows, the bound of 2 T / n needs their number fixed; for more, their length.
_PARTS = (8, 5, 3, 2)
_TOLERANCE = 0.05


@dataclasses.dataclass(frozen=True)
class Division:
    """One way to divide the list.

    ``longest`` is the most items that its windows have, ``ends`` are the last
    items of all windows but the last one, sorted; ``final`` is the last item of
    all.
    """

    label: str
    longest: int
    ends: tuple[str, ...]
    final: str | None

    @functools.cached_property
    def afters(self) -> Mapping[str, str]:
        """Return, for each window's last item (or END), the item before its first (or START)."""
        if self.final is None:
            return {}
        return dict(zip((*self.ends, END), (START, *self.ends), strict=True))

    @functools.cached_property
    def lasts(self) -> Mapping[str, str]:
        """Return the inverse of afters; in the finest division also NONE after the last item."""
        found = {after: last for last, after in self.afters.items()}
        return found | ({self.final: NONE} if self.final and self.longest == 1 else {})

    def last(self, item: str) -> str:
        """Return the last item of the window that ``item`` is in, or would be."""
        at = bisect_left(self.ends, item)
        return self.ends[at] if at < len(self.ends) else END


@dataclasses.dataclass(frozen=True)
class Window:
    """A window that is in no division: its last item, END or NONE, and all its items."""

    last: str
    items: tuple[str, ...]


class DividedList:
    """A list and all its divisions, the finest first; ``gone`` are items that were removed."""

    def __init__(self, items: Iterable[str], gone: Iterable[str] = ()) -> None:
        self.items = tuple(sorted(items))
        # Nothing follows in an empty list, so it remembers no items.
        self.gone = tuple(sorted(set(gone).difference(self.items))) if self.items else ()
        self.divisions = {division.label: division for division in _divisions(self.items)}

    def after(self, item: str, last: str = END) -> tuple[str, ...]:
        """Return the items after ``item`` up to ``last``."""
        begin = 0 if item == START else bisect_right(self.items, item)
        end = None if last == END else bisect_right(self.items, last)
        return self.items[begin:end]

    def extra_windows(self, label: str) -> dict[str, Window]:
        """Return the windows of HEADS or GONE, by the names of the links that lead there."""
        return self._heads() if label == HEADS else self._after_gone()

    def _heads(self) -> dict[str, Window]:
        """Return a window of the first n items for each small n, as long as more items follow."""
        numbers = range(1, min(FEW + 1, len(self.items)))
        return {f"{n}{START}": Window(self.items[n - 1], self.items[:n]) for n in numbers}

    def _after_gone(self) -> dict[str, Window]:
        """Return, for each removed item, the window of the one item after its place."""
        found = {}
        for item in self.gone:
            at = bisect_left(self.items, item)
            following = self.items[at : at + 1]
            is_last = at + 1 == len(self.items)
            found[item] = Window(END if is_last else (*following, NONE)[0], following)
        return found

    def tails(self) -> tuple[str, ...]:
        """Return the items after which there is a window of all that follow."""
        return self.items[:-1] if len(self.items) <= MANY else ()

    def label(self, n: int) -> str | None:
        """Return the division for a client that asks for ``n`` items; None for the whole list."""
        if n >= len(self.items):
            return None
        fitting = (d.label for d in reversed(self.divisions.values()) if d.longest <= n)
        return next(fitting)

    def steps(self) -> set[int]:
        """Return the numbers of items at which a client gets another division."""
        return {len(self.items), *(division.longest for division in self.divisions.values())}


def checksum(item: str) -> int:
    """Return the number by which the ends of windows are chosen."""
    # NOTE: names that differ in one digit have similar CRCs; Knuth's factor spreads them.
    return zlib.crc32(item.encode()) * 0x9E3779B1 & 0xFFFFFFFF


def order(label: str | None) -> tuple[int, int]:
    """Return a sort key for labels, the finest division first; None is the whole list."""
    if label is None:
        return (2, 0)
    kind, _, parts = label.partition("-")
    return (1, -int(parts)) if parts else (0, int(kind))


def _divisions(items: Sequence[str]) -> Iterator[Division]:
    checksums = list(map(checksum, items))
    total = len(items)
    for label, longest in plan(total):
        kind, _, parts = label.partition("-")
        if parts:
            cuts = [_best(checksums, *bounds) for bounds in _bounds(total, int(parts))[1:-1]]
        else:
            cuts = list(_chain(checksums, int(kind)))
        ends = tuple(items[cut - 1] for cut in cuts)
        yield Division(label, longest, ends, items[-1] if items else None)


def plan(total: int) -> list[tuple[str, int]]:
    """Return the label and longest window of each division of a list of ``total`` items."""
    parts = [(f"of-{number}", _longest(total, number)) for number in _PARTS]
    while parts[1:] and parts[1][1] <= _FIRST:
        del parts[0]  # no client would be led there
    sizes = itertools.takewhile(lambda size: size < parts[0][1], _sizes())
    found = [(str(size), size) for size in (*_FINE, *sizes) if size < max(total, 2)]
    return found + (parts if total > _FIRST else [])


def _sizes() -> Iterator[int]:
    return (int(_FIRST * _RATIO**step) for step in itertools.count())


def shortest(size: int) -> int:
    """Return the fewest items of a window of up to ``size`` items, except the last window."""
    return _FINE.get(size) or -int(-_SHORTEST * size // 1)


def _chain(checksums: Sequence[int], size: int) -> Iterator[int]:
    """Yield where windows of up to ``size`` items end, except the last, counted in items."""
    end, total, least = 0, len(checksums), shortest(size)
    while total - end > size:
        # This is _best() written out, which is faster for lists of many thousands.
        following = checksums[end + least - 1 : end + size]
        end += least + following.index(max(following))
        yield end


def _bounds(total: int, parts: int) -> list[tuple[int, int]]:
    """Return the first and last place where each part may end, with the list's two ends."""
    ideal = [total * part / parts for part in range(1, parts)]
    slack = total / parts * _TOLERANCE
    inner = [(min(round(at), int(at - slack) + 1), max(round(at), int(at + slack))) for at in ideal]
    return [(0, 0), *inner, (total, total)]


def _longest(total: int, parts: int) -> int:
    pairs = itertools.pairwise(_bounds(total, parts))
    return max(following[1] - bounds[0] for bounds, following in pairs)


def _best(checksums: Sequence[int], first: int, last: int) -> int:
    """Return the place from ``first`` to ``last`` after the item with the largest checksum."""
    between = checksums[first - 1 : last]
    return first + between.index(max(between))
