# SPDX-License-Identifier: Apache-2.0
"""The progress of copies: what is shown of a run, and a line for each image of it."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import TextIO

from image_uploader_plugins.cli.progress import Display, Rate, on_terminal
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import ImageRecord, Outcome, Status, Tally
from image_uploader_plugins.units import size


class Copying:
    """The lines about a run that copies images: the whole run, and one image at work.

    That is the one that began first of those of which bytes have come: others may
    wait for their turn to be fetched.
    """

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._clock = clock
        self._rate = Rate(clock)
        self._image: tuple[ImageRecord | None, Rate] = None, self._rate

    def __call__(self) -> list[str]:
        if not self._journal.images:
            return []  # tripleo-common is still finding out which
        at_work = self._journal.at_work()
        expected, certain = self._journal.expected()
        rate = self._rate.text(self._journal.meter.done, expected, certain=certain)
        lines = [f"{self._images()}, {rate}"]
        if at_work:
            record, meter = next((one for one in at_work if one[1].done), at_work[0])
            if record is not self._image[0]:
                self._image = record, Rate(self._clock)
            lines.append(f"{record.source}: {self._image[1].text(meter.done, meter.expected)}")
        return lines

    def _images(self) -> str:
        done, failed, total = self._journal.progress()
        return f"{done} of {total} images" + (f", {failed} failed" if failed else "")


def copying(
    stream: TextIO, journal: Journal, *, quiet: bool = False
) -> contextlib.AbstractContextManager[object]:
    """Return a context in which a run is shown on ``stream``.

    On a terminal as a Display, elsewhere as a line for each image, and not at
    all with ``quiet``.
    """
    shown = on_terminal(stream) and not quiet
    plain = not shown and not quiet
    # Without an observer it would log what failed, which is told at the end.
    journal.observer = functools.partial(_say, stream) if plain else lambda _record: None
    return Display(stream, Copying(journal)) if shown else contextlib.nullcontext()


def _say(stream: TextIO, record: ImageRecord) -> None:
    with contextlib.suppress(OSError):  # the reader has closed it
        stream.write(f"{record.source}: {_outcome(record)}\n")
        stream.flush()


def _outcome(record: ImageRecord) -> str:
    if record.status is Status.FAILED:
        return f"failed: {str(record.why).removeprefix(f'{record.source}: ')}"
    layers = Tally.by_outcome([record])
    missing = ", ".join(record.missing_platforms)
    return (
        f"{record.status}, {layers[Outcome.FETCHED].count} layers fetched, "
        f"{layers[Outcome.MOUNTED].count} mounted, {layers[Outcome.PRESENT].count} present, "
        f"{size(record.bytes_fetched)} fetched" + (f", nothing for {missing}" if missing else "")
    )
