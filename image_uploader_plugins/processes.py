# SPDX-License-Identifier: Apache-2.0
"""Looking at many things in several processes, where the interpreter's lock holds threads up."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import select
import signal
import struct
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeVar

_T = TypeVar("_T")

_RESULT = struct.Struct("=qq")  # the place of an item, and its number
_PART = struct.Struct("=q")  # the place of its first item
_PARTS = 512  # at most: the smallest pipe holds them
_AT_ONCE = 128  # results in one write, which no other process' write gets into: below PIPE_BUF
_INTERVAL = 0.1  # seconds
_ROOM = 1024 * 1024  # bytes that a pipe holds; more needs rights
_NONE = -1


@contextlib.contextmanager
def numbers(
    look: Callable[[_T], int | None],
    items: Sequence[_T],
    processes: int,
    check: Callable[[], object],
) -> Iterator[Iterator[tuple[_T, int | None]]]:
    """Yield what yields each item and the number, not negative, that ``look`` returns.

    They come in no order. Each of the processes is a child of fork, takes part
    after part of the items, and is at work in the block alone. What ``look`` changes in
    memory is lost. None stands also for what it raised, and for what a process
    that ended early has not looked at. ``check`` is called a few times a second
    while results are waited for, and ends that when it raises an error.

    A lock that another thread holds at the moment stays locked in a child, so
    ``look`` may take none that other threads take.
    """
    parts, size = _parts(len(items))
    reading, writing = os.pipe()
    with contextlib.suppress(OSError):
        # Whoever does something else first should not hold the others up.
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _ROOM)
    children: list[int] = []
    try:
        # Where no process can be made, the others do its work.
        with contextlib.suppress(OSError):
            for _ in range(processes):
                places = _taken(parts, size, len(items))
                children.append(_fork(look, items, places, (reading, writing)))
        os.close(writing)
        writing = -1
        yield _told(items, reading, check)
    finally:
        os.close(parts)
        os.close(reading)
        if writing >= 0:
            os.close(writing)
        for child in children:
            # One that has ended is there until it is waited for.
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _parts(count: int) -> tuple[int, int]:
    """Return a pipe to read the parts of so many items from, and the size of a part."""
    size = max(1, -(-count // _PARTS))
    parts, writing = os.pipe()
    os.write(writing, b"".join(map(_PART.pack, range(0, count, size))))
    os.close(writing)
    return parts, size


def _taken(parts: int, size: int, count: int) -> Iterator[int]:
    """Yield the places of items in parts that no other process has taken, until there are none."""
    while part := os.read(parts, _PART.size):
        (start,) = _PART.unpack(part)
        yield from range(start, min(start + size, count))


def _told(
    items: Sequence[_T], reading: int, check: Callable[[], object]
) -> Iterator[tuple[_T, int | None]]:
    left = set(range(len(items)))
    for place, number in _results(reading, check):
        left.discard(place)
        yield items[place], None if number == _NONE else number
    yield from ((items[place], None) for place in sorted(left))


def _results(reading: int, check: Callable[[], object]) -> Iterator[tuple[int, int]]:
    ready = select.poll()
    ready.register(reading, select.POLLIN)
    while True:
        check()
        if ready.poll(_INTERVAL * 1000):
            # Writes are whole results, and so is what was written until now.
            found = os.read(reading, _RESULT.size * _AT_ONCE)
            if not found:
                return
            yield from _RESULT.iter_unpack(found)


def _fork(
    look: Callable[[_T], int | None],
    items: Sequence[_T],
    places: Iterator[int],
    pipe: tuple[int, int],
) -> int:
    with warnings.catch_warnings():
        # Python 3.12 warns of locks that other threads hold, see numbers().
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _work(look, items, places, *pipe)
    return child


def _work(
    look: Callable[[_T], int | None],
    items: Sequence[_T],
    places: Iterator[int],
    reading: int,
    writing: int,
) -> NoReturn:
    try:
        os.close(reading)  # so that writing fails when the parent is gone
        # Signals are for the parent, which ends this process; so is what people read.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        logging.disable()
        gc.freeze()  # memory that the collector leaves alone stays shared
        results: list[bytes] = []
        written = time.monotonic()
        for place in places:
            number = None
            with contextlib.suppress(Exception):
                number = look(items[place])
            results.append(_RESULT.pack(place, _NONE if number is None else number))
            if len(results) == _AT_ONCE or time.monotonic() - written > _INTERVAL:
                os.write(writing, b"".join(results))
                results.clear()
                written = time.monotonic()
        os.write(writing, b"".join(results))
    finally:
        # Nothing of the parent's is flushed or cleaned up here.
        os._exit(0)
