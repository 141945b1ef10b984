# SPDX-License-Identifier: Apache-2.0
"""The windows of a sorted list, computed by pure functions.

Source: OCI distribution-spec 1.1, "Listing Tags". A window may hold fewer items
than a client asked for as long as a ``Link`` leads to the next.

The list is divided into windows in several ways: into windows of one item, of
up to 4, 16, 22, 31, 43 and so on, each about 1.4 times as long as the one
before, and into 8, 5, 3 and 2 parts. A client gets the windows of the coarsest
division whose longest window is not longer than it asked for, which is rounded
down to two significant digits. Every window but the last has at least 0.74 times
the items that it may have, so a client never gets more than 2 T / n windows, with
T items in all and n so rounded.

A window ends, among the last items that it may hold, with the one whose
checksum is the largest. So the ends of windows depend on the items alone, never
on the order in which they came. An item that comes or goes changes the window
that contains it, rarely the end of that window, and hardly ever more than a few
windows after it. Windows of different divisions often end with the same item,
so a client that continues after any item gets to long windows after a few short
ones.
"""

from __future__ import annotations

import itertools
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

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
# NOTE: names that differ in one digit have similar CRCs; Knuth's factor spreads them.
_FACTOR = 0x9E3779B1
_MASK = 0xFFFFFFFF
_32_BITS = "I"


class Division(NamedTuple):
    """One way to divide the list.

    ``longest`` is the most items that its windows have, ``ends`` are the last
    items of all windows but the last one, sorted; ``final`` is the last item of
    all.
    """

    label: str
    longest: int
    ends: list[str]
    final: str | None

    @property
    def afters(self) -> Mapping[str, str]:
        """Return, for each window's last item (or END), the item before its first (or START)."""
        if self.final is None:
            return {}
        return dict(zip((*self.ends, END), (START, *self.ends), strict=True))

    @property
    def lasts(self) -> Mapping[str, str]:
        """Return the inverse of afters; in the finest division also NONE after the last item."""
        return self.inverse(self.afters)

    def inverse(self, afters: Mapping[str, str]) -> dict[str, str]:
        """Return the inverse of afters or a part of it, as lasts does."""
        found = {after: last for last, after in afters.items()}
        return found | ({self.final: NONE} if self.final and self.longest == 1 else {})

    def last(self, item: str) -> str:
        """Return the last item of the window that ``item`` is in, or would be."""
        at = bisect_left(self.ends, item)
        return self.ends[at] if at < len(self.ends) else END


class Window(NamedTuple):
    """A window that is in no division: its last item, END or NONE, and all its items."""

    last: str
    items: tuple[str, ...]


class DividedList:
    """A list and all its divisions, the finest first; ``gone`` are items that were removed."""

    def __init__(self, items: Iterable[str], gone: Iterable[str] = ()) -> None:
        self.items = sorted(items)
        # Nothing follows in an empty list, so it remembers no items.
        self.gone = tuple(sorted(set(gone).difference(self.items))) if self.items else ()
        # NOTE: not functools.cached_property, whose lock a child of fork may inherit locked.
        self._checksums: array[int] | None = None
        self._divisions: dict[str, Division] | None = None
        self._extra: dict[str, dict[str, Window]] = {}

    def __contains__(self, item: str) -> bool:
        at = bisect_left(self.items, item)
        return self.items[at : at + 1] == [item]

    @property
    def checksums(self) -> array[int]:
        """Return the checksum of each item; computed when it is first needed."""
        if self._checksums is None:
            self._checksums = _checksums(self.items)
        return self._checksums

    @property
    def divisions(self) -> dict[str, Division]:
        """Return the divisions by their labels; computed when they are first needed."""
        if self._divisions is None:
            self._divisions = {division.label: division for division in _divisions(self)}
        return self._divisions

    def changed(
        self, added: Collection[str], removed: Collection[str], gone: Iterable[str]
    ) -> Change:
        """Return the list with and without some items, and what differs; this list stays.

        No item of ``added`` is in the list, and each one of ``removed`` is.
        Equal to the list that is divided from scratch, but computes only what
        is near the changed items.
        """
        items = tuple(sorted((*added, *removed)))
        new = DividedList(())
        new.items, new._checksums = self._changed_items(items, set(added))
        new.gone = tuple(sorted(set(gone).difference(added))) if new.items else ()
        splices = {}
        new._divisions = {}
        for label, longest in plan(len(new.items)):
            old = self.divisions.get(label)
            if old is None:
                ends = _ends(new, label)
            else:
                splices[label] = _splices(old, new, items)
                ends = _spliced(old.ends, splices[label])
            new._divisions[label] = Division(label, longest, ends, *new.items[-1:] or (None,))
        return Change(self, new, items, splices)

    def _changed_items(
        self, changed: Iterable[str], added: Collection[str]
    ) -> tuple[list[str], array[int]]:
        """Return the items and checksums after the changed ones came or went."""
        items, checksums = self.items.copy(), self.checksums[:]
        for item in changed:
            at = bisect_left(items, item)
            if item in added:
                items.insert(at, item)
                checksums.insert(at, checksum(item))
            else:
                del items[at], checksums[at]
        return items, checksums

    def after(self, item: str, last: str = END) -> list[str]:
        """Return the items after ``item`` up to ``last``."""
        return self.items[self.span(item, last)]

    def span(self, item: str, last: str) -> slice:
        """Return the places of the items after ``item`` up to ``last``."""
        begin = 0 if item == START else bisect_right(self.items, item)
        end = len(self.items) if last == END else bisect_right(self.items, last)
        return slice(begin, end)

    def extra_windows(self, label: str) -> dict[str, Window]:
        """Return the windows of HEADS or GONE, by the names of the links that lead there."""
        if label not in self._extra:
            self._extra[label] = self._heads() if label == HEADS else self._after_gone()
        return self._extra[label]

    def _heads(self) -> dict[str, Window]:
        """Return a window of the first n items for each small n, as long as more items follow."""
        numbers = range(1, min(FEW + 1, len(self.items)))
        return {f"{n}{START}": Window(self.items[n - 1], tuple(self.items[:n])) for n in numbers}

    def _after_gone(self) -> dict[str, Window]:
        """Return, for each removed item, the window of the one item after its place."""
        found = {}
        for item in self.gone:
            at = bisect_left(self.items, item)
            following = tuple(self.items[at : at + 1])
            is_last = at + 1 == len(self.items)
            found[item] = Window(END if is_last else (*following, NONE)[0], following)
        return found

    def tails(self) -> tuple[str, ...]:
        """Return the items after which there is a window of all that follow."""
        return tuple(self.items[:-1]) if len(self.items) <= MANY else ()

    def label(self, n: int) -> str | None:
        """Return the division for a client that asks for ``n`` items; None for the whole list."""
        if n >= len(self.items):
            return None
        fitting = (d.label for d in reversed(self.divisions.values()) if d.longest <= n)
        return next(fitting)

    def steps(self) -> dict[int, str | None]:
        """Return what label() does, by the numbers of items from which on it is another one."""
        total = len(self.items)
        found = {d.longest: d.label for d in self.divisions.values() if d.longest < total}
        return {**found, max(total, 1): None}


class Splice(NamedTuple):
    """Ends of windows that replace others: ``new`` replaces ``old``, after the ``first`` ends."""

    first: int
    old: list[str]
    new: list[str]


class Change(NamedTuple):
    """A list before and after ``items`` came or went, these sorted.

    ``splices`` are those of the divisions that both lists have, by their labels.
    """

    old: DividedList
    new: DividedList
    items: tuple[str, ...]
    splices: Mapping[str, Sequence[Splice]]

    def afters(self, label: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return which windows a division of both had, and has, as in Division.afters.

        Left out are windows that both have and that contain no changed item.
        """
        before: dict[str, str] = {}
        now: dict[str, str] = {}
        ends = self.old.divisions[label].ends
        for splice in self.splices[label]:
            start = ends[splice.first - 1] if splice.first else START
            rest = splice.first + len(splice.old)
            following = ends[rest] if rest < len(ends) else END
            before |= zip((*splice.old, following), (start, *splice.old), strict=True)
            now |= zip((*splice.new, following), (start, *splice.new), strict=True)
        return before if self.old.items else {}, now if self.new.items else {}

    def is_same(self, last: str, before: str, after: str) -> bool:
        """Return whether a window up to ``last`` has the same items as before.

        It began after the item ``before``, and begins after the item ``after``.
        """
        old, new = self.old.span(before, last), self.new.span(after, last)
        same_length = old.stop - old.start == new.stop - new.start
        return same_length and self.old.items[old] == self.new.items[new]


def round_numbers(first: int, following: int) -> Iterator[int]:
    """Yield the numbers of up to two significant digits, from 1 on, that are in a range."""
    number = first
    while number < following:
        step = 10 ** max(len(str(number)) - 2, 0)
        if number % step == 0:
            yield number
        number += step - number % step


def checksum(item: str) -> int:
    """Return the number by which the ends of windows are chosen."""
    return zlib.crc32(item.encode()) * _FACTOR & _MASK


def _checksums(items: Iterable[str]) -> array[int]:
    """Return what checksum() does, for many items, with fewer calls."""
    crcs = map(zlib.crc32, map(str.encode, items))
    return array(_32_BITS, [crc * _FACTOR & _MASK for crc in crcs])


def order(label: str | None) -> tuple[int, int]:
    """Return a sort key for labels, the finest division first; None is the whole list."""
    if label is None:
        return (2, 0)
    kind, _, parts = label.partition("-")
    return (1, -int(parts)) if parts else (0, int(kind))


def _divisions(divided: DividedList) -> Iterator[Division]:
    for label, longest in plan(len(divided.items)):
        yield Division(label, longest, _ends(divided, label), *divided.items[-1:] or (None,))


def _ends(divided: DividedList, label: str) -> list[str]:
    """Return the last items of all windows of a division but the last one."""
    kind, _, parts = label.partition("-")
    checksums = divided.checksums
    if parts:
        bounds = _bounds(len(divided.items), int(parts))[1:-1]
        return [divided.items[_best(checksums, *bound) - 1] for bound in bounds]
    if kind == "1":
        return divided.items[:-1]
    return [divided.items[cut - 1] for cut in _chain(checksums, int(kind))]


def _splices(old: Division, new: DividedList, changed: Sequence[str]) -> list[Splice]:
    """Return what replaces ends of a division when the ``changed`` items came or went."""
    if "-" in old.label:
        return [Splice(0, old.ends, _ends(new, old.label))]
    splices: list[Splice] = []
    done = 0  # how many of the old ends are known to stay, or are replaced
    for item in changed:
        if done and item < old.ends[done - 1]:
            continue
        splices.append(_splice(old, new, item, _reaching(old, new, item, done)))
        done = splices[-1].first + len(splices[-1].old) + 1
        if done > len(old.ends):
            break
    return splices


def _reaching(old: Division, new: DividedList, item: str, done: int) -> int:
    """Return how many ends stand before the first window whose choice ``item`` may change."""
    place = bisect_left(new.items, item)
    first = bisect_left(old.ends, item, done)
    while first > done and bisect_right(new.items, old.ends[first - 1]) + old.longest >= place:
        first -= 1
    return first


def _splice(old: Division, new: DividedList, item: str, first: int) -> Splice:
    """Return new ends from the first one on, up to where the old ones go on after ``item``."""
    start = bisect_right(new.items, old.ends[first - 1]) if first else 0
    at = first
    found: list[str] = []
    for cut in _chain(new.checksums, old.longest, start):
        end = new.items[cut - 1]
        at = bisect_left(old.ends, end, at)
        if end > item and old.ends[at : at + 1] == [end]:
            return Splice(first, old.ends[first:at], found)
        found.append(end)
    return Splice(first, old.ends[first:], found)


def _spliced(ends: list[str], splices: Sequence[Splice]) -> list[str]:
    found = ends.copy()
    for splice in reversed(splices):
        found[splice.first : splice.first + len(splice.old)] = splice.new
    return found


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


def _chain(checksums: Sequence[int], size: int, end: int = 0) -> Iterator[int]:
    """Yield where windows of up to ``size`` items end, except the last, counted in items.

    The first of them begins after ``end`` items.
    """
    total, least = len(checksums), shortest(size)
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
