# SPDX-License-Identifier: Apache-2.0
"""Work that one thread does for all threads that wait for it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from image_uploader_plugins.storage import fork

_T = TypeVar("_T")


class _Round(Generic[_T]):
    """What one call of the work is for, and the error that it ended with."""

    def __init__(self) -> None:
        self.items: list[_T] = []
        self.is_led = False
        self.error: BaseException | None = None
        # Locked until the call has ended: an event costs ten times as much.
        self.under_way = threading.Lock()
        self.under_way.acquire()


class Rounds(Generic[_T]):
    """Calls of ``work``, one at a time, each with the items of all threads that wait.

    While one call is under way, others gather; then one of them calls it for
    all. So work that costs the same for one item and for many, such as a flush
    of a disk, is done rarely. ``gather`` is called before each call, and may
    wait for others that are about to join.
    """

    def __init__(
        self, work: Callable[[list[_T]], object], gather: Callable[[], object] = lambda: None
    ) -> None:
        self._work = work
        self._gather = gather
        self._renew()
        fork.in_child(self, Rounds._renew)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        self._working = threading.Lock()
        self._next: _Round[_T] = _Round()

    def join(self, items: Iterable[_T]) -> None:
        """Return when a call that began after this one, with these items, has ended.

        Raises the error that it ended with; every thread of the round does.
        """
        with self._mutex:
            mine = self._next
            mine.items += items
            leads, mine.is_led = not mine.is_led, True
        if leads:
            self._lead(mine)
        else:
            with mine.under_way:
                pass
            if mine.error:
                raise _of_another(mine.error)

    def _lead(self, mine: _Round[_T]) -> None:
        try:
            with self._working:
                self._gather()
                self._close(mine)
                self._work(mine.items)
        except BaseException as e:
            mine.error = e
            raise
        finally:
            # An interrupt may come while others still gather.
            self._close(mine)
            mine.under_way.release()

    def _close(self, mine: _Round[_T]) -> None:
        """Have those that come from now on join another round."""
        with self._mutex:
            if self._next is mine:
                self._next = _Round()


def _of_another(error: BaseException) -> BaseException:
    """Return an error that another thread raised, to be raised here as well."""
    if isinstance(error, Exception):
        return copy.copy(error)
    # The other thread was told to stop; this one was not.
    return RuntimeError(f"another thread was interrupted: {error!r}")
