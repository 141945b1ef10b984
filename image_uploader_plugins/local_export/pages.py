"""How the tags of a repository fall into pages; pure functions.

Source: OCI distribution-spec 1.1, "Listing Tags".  A page holds the tags
after one tag, and may hold fewer than a client asked for as long as a
``Link`` leads on.  All pages of a window end with the same tag, so a new tag
changes the pages of one window, and no page anywhere else.

Where windows end follows from the tags alone, never from the order in which
they came.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Iterable, Iterator

# No tag begins with a dot.
START = ".start"
END = ".end"

LONGEST = 64
"""Tags in the longest page; the web servers' configurations know it too.

A client that asks for so many or more gets a page of its window; one that
asks for fewer gets just so many from the start of the list, and one at a time
after a tag.
"""

# So few tags are one window: a client that asks for all after one gets all.
_ALL_IN_ONE = 32
_ONE_IN = 16


@dataclasses.dataclass(frozen=True)
class Page:
    """The ``tags`` after the tag ``after`` (or START); ``last`` is END where no tag follows."""

    after: str
    last: str
    tags: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Window(Page):
    """The longest page of those that end with the same tag."""

    def pages(self) -> Iterator[Page]:
        befores = (self.after, *self.tags[:-1])
        return (Page(tag, self.last, self.tags[at:]) for at, tag in enumerate(befores))


def windows(tags: Iterable[str], longest: int = LONGEST) -> frozenset[Window]:
    """Divide tags into windows of at most ``longest``, with an empty one at the end."""
    ordered = sorted(tags)
    parts = list(_divide(ordered, longest))
    befores = [START, *(part[-1] for part in parts)]
    lasts = [*(part[-1] for part in parts[:-1]), END, END]
    if not parts:
        lasts = [END]
    return frozenset(map(Window, befores, lasts, [*parts, ()]))


def _divide(ordered: list[str], longest: int) -> Iterator[tuple[str, ...]]:
    small = len(ordered) <= _ALL_IN_ONE
    part: list[str] = []
    for tag in ordered:
        part.append(tag)
        if len(part) == longest or (not small and zlib.crc32(tag.encode()) % _ONE_IN == 0):
            yield tuple(part)
            part = []
    if part:
        yield tuple(part)


def pages(windows: Iterable[Window]) -> Iterator[Page]:
    return itertools.chain.from_iterable(window.pages() for window in windows)


def heads(tags: Iterable[str]) -> frozenset[Page]:
    """The first tag, the first two, and so on, as long as others follow."""
    ordered = tuple(sorted(tags))
    sizes = range(1, min(LONGEST, len(ordered)))
    return frozenset(Page(START, ordered[size - 1], ordered[:size]) for size in sizes)
