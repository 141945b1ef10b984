# SPDX-License-Identifier: Apache-2.0
"""The progress of work: lines that change on a terminal, plain lines elsewhere.

No library draws these lines: rich would make every start 0.03 seconds longer,
tqdm redraws nothing by itself, and both would leave the thread, the loggers
and the text to us.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from image_uploader_plugins.meter import Meter, Steps
from image_uploader_plugins.units import clock, size

INTERVAL = 0.2  # seconds between two looks; people read no faster
_WINDOW = 10.0  # seconds that a rate is taken over
_COLUMNS = 80  # of a terminal that does not know
_CLEAR_LINE = "\r\x1b[K"
_LINE_UP = "\x1b[A"

Lines = Callable[[], list[str]]


class Display:
    """Shows the ``lines`` of the moment on a terminal, below whatever else is written to it.

    As a context manager it redraws them a few times a second, has what is
    logged to ``stream`` appear above, and gives the terminal back at the end.
    """

    def __init__(self, stream: TextIO, lines: Lines) -> None:
        self._stream = stream
        self._lines = lines
        self._drawn = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._redraw, daemon=True)
        self._loggers: list[logging.StreamHandler[Any]] = []

    def draw(self) -> None:
        """Put the lines of now in the place of those before, each cut to the terminal's width."""
        width = _width(self._stream) - 1  # in the last column some terminals begin a new line
        with self._lock:
            lines = [line[:width] for line in self._lines()]
            self._write(self._cleared() + "\n".join(lines))
            self._drawn = len(lines)

    def write(self, text: str) -> int:
        """Write lines that stay, above those that change."""
        with self._lock:
            self._write(self._cleared() + text)
            self._drawn = 0
        return len(text)

    @contextlib.contextmanager
    def above(self) -> Iterator[None]:
        """Leave the terminal to what a block writes, above the lines that change."""
        with self._lock:
            self._write(self._cleared())
            self._drawn = 0
            yield

    def flush(self) -> None:
        """Do nothing: write() leaves nothing to be flushed."""

    def _cleared(self) -> str:
        return _LINE_UP.join([_CLEAR_LINE] * self._drawn)

    def _write(self, text: str) -> None:
        # Nobody may be looking any more: that is no reason to end the work.
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()

    def _redraw(self) -> None:
        while not self._ended.wait(INTERVAL):
            self.draw()

    def __enter__(self) -> Display:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                handler.setStream(self)
                self._loggers.append(handler)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for handler in self._loggers:
            handler.setStream(self._stream)
        self.write("")


class Rate:
    """The rate of some work in bytes a second, over the last ten seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: collections.deque[tuple[float, int]] = collections.deque()

    def text(self, done: int, expected: int, *, certain: bool = True) -> str:
        """Return how much is done, how fast that is, and how long the rest takes at that rate.

        ``expected`` is the whole, in bytes; not ``certain`` where it is an
        estimate.
        """
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] <= now - _WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        speed = (done - before) / (now - since) if now > since else 0.0
        about = "" if certain else "about "
        # Where sizes are unknown, more bytes may come than were expected.
        line = f"{size(done)} of {about}{size(max(done, expected))}"
        if speed > 0:
            line += f", {size(speed)}/s, {about}{clock((expected - done) / speed)} left"
        return line


class Work:
    """The line about work that a meter counts: steps, or bytes that are read."""

    def __init__(self, meter: Meter, clock: Callable[[], float] = time.monotonic) -> None:
        self._meter = meter
        self._clock = clock
        self._rate = Rate(clock)
        self._begun: tuple[Steps | None, float] = None, 0.0

    def __call__(self) -> list[str]:
        steps, meter = self._meter.steps, self._meter
        if steps:
            return [self._steps(steps)]
        return [f"Read {self._rate.text(meter.done, meter.expected)}"] if meter.expected else []

    def _steps(self, steps: Steps) -> str:
        now = self._clock()
        if steps is not self._begun[0]:
            self._begun = steps, now
        line = steps.what.format(f"{steps.done} of {steps.expected}")
        if not steps.done:
            return line
        each = (now - self._begun[1]) / steps.done
        return f"{line}, {clock(each * (steps.expected - steps.done))} left"


def metered(
    stream: TextIO, meter: Meter, *, quiet: bool = False
) -> contextlib.AbstractContextManager[Display | None]:
    """Return a context in which work that a meter counts is shown, if ``stream`` is a terminal.

    It yields the display, or None where nothing is shown.
    """
    if quiet or not on_terminal(stream):
        return contextlib.nullcontext()
    return Display(stream, Work(meter))


def on_terminal(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _width(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):
        return _COLUMNS
