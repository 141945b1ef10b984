# SPDX-License-Identifier: Apache-2.0
"""Blocks that one thread of a process runs at a time, except while it waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from image_uploader_plugins.storage import fork


class Alone:
    """The turns of the threads of a process to run blocks of short system calls.

    NOTE: a thread gives up the interpreter's lock for each system call, and wakes
    another one that waits for that lock. Where many threads make short calls,
    waking them takes more time than the calls. Who waits for a turn is not woken.

    Whoever waits in a block for a disk, a file's lock or another thread does so in
    waiting(), and lets others run meanwhile. So no lock is held forever, in
    whatever order turns and locks are taken.
    """

    def __init__(self) -> None:
        self._renew()
        fork.in_child(self, Alone._renew)

    def _renew(self) -> None:
        self._turn = threading.Lock()
        self._mine = threading.local()

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Run a block when it is this thread's turn; at once in another such block."""
        if self._is_mine():
            yield
            return
        self._take()
        try:
            yield
        finally:
            # Not where a signal has ended the wait for the turn, or in a child of fork.
            if self._is_mine():
                self._give()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Let other threads run while this one waits in a block."""
        if not self._is_mine():
            yield
            return
        self._give()
        try:
            yield
        finally:
            self._take()

    def _is_mine(self) -> bool:
        return getattr(self._mine, "is_mine", False)

    def _take(self) -> None:
        self._turn.acquire()
        self._mine.is_mine = True

    def _give(self) -> None:
        self._mine.is_mine = False
        self._turn.release()
