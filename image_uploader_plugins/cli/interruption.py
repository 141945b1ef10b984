# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM: the first signal ends a command in order, a second one kills it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# NOTE: timeout(1) sends its signal to the command and then to its process
# group, so that one arrives as two.
_ONE_AND_THE_SAME = 0.25  # seconds


class Interruption(KeyboardInterrupt):
    """A signal that came; raised in the main thread, whatever that is doing.

    ``status`` is the exit status, 128 and the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.status = 128 + number  # as shells have it


@contextlib.contextmanager
def handled(stop: Callable[[], None]) -> Iterator[None]:
    """Have a signal call ``stop``, for other threads to end, and raise Interruption.

    A signal that the parent process has set to be ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[float] = []

    def handle(number: int, _: FrameType | None) -> None:
        if not came:
            came.append(time.monotonic())
            stop()
            raise Interruption(number)
        if time.monotonic() - came[0] > _ONE_AND_THE_SAME:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    ours = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end(status: int) -> int:
    """Return the exit status; end the process at once where other threads still run.

    The interpreter waits for its threads, and one of them may wait for a
    server that never answers.
    """
    if threading.active_count() > 1:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    return status
