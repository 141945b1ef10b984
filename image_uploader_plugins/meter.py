# SPDX-License-Identifier: Apache-2.0
"""A meter: counts the bytes and steps of some work, for progress and reports; can stop it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

from image_uploader_plugins import errors

_T = TypeVar("_T")


@dataclasses.dataclass
class Steps:
    """A part of some work that is one thing after the other.

    ``what`` says what is done, with {} for how many, as in "Checked {} repositories".
    """

    what: str
    expected: int
    done: int = 0


class Meter:
    """Bytes, counted while they come or are read; safe to use from several threads.

    ``expected`` grows as work becomes known, also with what has to come
    again, and is ``done`` once all of it is.  What a part counts counts for
    the ``whole``, and stops with it.  ``steps`` are those of the part at work,
    if it has any.
    """

    def __init__(self, whole: Meter | None = None) -> None:
        self._whole = whole
        self._lock = threading.Lock()
        self._stopped = False
        self.done = 0
        self.expected = 0
        self.steps: Steps | None = None

    def each(self, what: str, items: Collection[_T]) -> Iterator[_T]:
        """Yield the items, each as a step of ``what``; raise Interrupted after stop()."""
        return self.each_of(what, items, len(items))

    def each_of(self, what: str, items: Iterable[_T], expected: int) -> Iterator[_T]:
        """Do what each() does, for items of which it is only known how many are to come."""
        self.steps = steps = Steps(what, expected)
        try:
            for item in items:
                self.check()
                yield item
                steps.done += 1
        finally:
            self.steps = None

    def expect(self, count: int) -> None:
        """Note that so many bytes more are to come, or less where ``count`` is negative."""
        with self._lock:
            self.expected += count
        if self._whole:
            self._whole.expect(count)

    def add(self, count: int) -> None:
        """Note that so many bytes came; raises Interrupted after stop()."""
        self.check()
        self._add(count)

    def _add(self, count: int) -> None:
        with self._lock:
            self.done += count
        if self._whole:
            self._whole._add(count)

    def check(self) -> None:
        """Raise Interrupted after stop()."""
        if self._stopped:
            raise errors.Interrupted("interrupted")
        if self._whole:
            self._whole.check()

    def stop(self) -> None:
        """Have all work end at its next piece; takes no lock, as signal handlers must not."""
        self._stopped = True
