# SPDX-License-Identifier: Apache-2.0
"""The course of a run: what it was to copy, what is at work, and what became of it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from image_uploader_plugins.meter import Meter
from image_uploader_plugins.runs.records import (
    INTERRUPTED,
    NEVER_BEGUN,
    Ending,
    ImageRecord,
    RunRecord,
    Status,
    Totals,
    reason,
)
from image_uploader_plugins.text import one_line, redacted

LOG = logging.getLogger(__name__)

Observer = Callable[[ImageRecord], None]
"""Told of each image when it is done."""


class Journal:
    """Everything about one run, safe to use from several threads.

    ``entries_left`` are what a run has not come to and whose images nobody
    knows yet, or why entries of an archive were left out; ``deleted`` are images
    that it deleted; ``meter`` counts what comes over the network, and stops the run.
    """

    def __init__(self, observer: Observer | None = None, meter: Meter | None = None) -> None:
        self.observer = observer
        self.meter = meter or Meter()
        self.entries_left: tuple[str, ...] = ()
        self.deleted: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._images: list[ImageRecord] = []
        self._begun = 0
        self._at_work: dict[int, tuple[ImageRecord, Meter, float]] = {}
        self._started = time.time()
        self._start = time.monotonic()

    def plan(self, source: str, uploader: str) -> ImageRecord:
        """Add an image that the uploader of that name is to copy, and return its record."""
        record = ImageRecord(one_line(redacted(source)), uploader)
        with self._lock:
            self._images.append(record)
        return record

    @contextlib.contextmanager
    def turn(self, record: ImageRecord) -> Iterator[Meter]:
        """Time an image that is at work, and give it a meter of its own."""
        meter, start = Meter(self.meter), time.monotonic()
        record.become(Status.FAILED, INTERRUPTED, retryable=True)  # until it is more
        with self._lock:
            self._begun += 1
            self._at_work[id(record)] = record, meter, start
        try:
            yield meter
        except Exception as e:
            record.become(Status.FAILED, str(e) or type(e).__name__)
            raise
        finally:
            _measure(record, meter, start)
            with self._lock:
                del self._at_work[id(record)]

    def put_off(self, record: ImageRecord) -> None:
        """Note that an image that had its turn gets another one, as if it had not begun."""
        with self._lock:
            self._begun -= 1
            record.become(Status.SKIPPED, NEVER_BEGUN)

    def tell(self, record: ImageRecord) -> None:
        """Tell the observer, or else the log, of an image that is done."""
        if self.observer:
            self.observer(record)
        elif record.status is Status.FAILED:
            LOG.error("%s", record.why)

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """Return the records in the order in which the images were asked for."""
        with self._lock:
            return tuple(self._images)

    def at_work(self) -> list[tuple[ImageRecord, Meter]]:
        """Return the images that are at work, the longest at work first."""
        with self._lock:
            return [(record, meter) for record, meter, _ in self._at_work.values()]

    def progress(self) -> tuple[int, int, int]:
        """Return the numbers of images: those that are done, those of them that failed, and all."""
        with self._lock:
            failed = sum(
                image.status is Status.FAILED and id(image) not in self._at_work
                for image in self._images
            )
            return self._begun - len(self._at_work), failed, len(self._images)

    def expected(self) -> tuple[int, bool]:
        """Return the bytes of the whole run, and whether that number is final.

        Images that have not begun count as the average of the others.
        """
        with self._lock:
            total, begun = len(self._images), self._begun
        known = self.meter.expected
        if not begun or begun >= total:
            return known, True
        return known * total // begun, False

    def totals(self) -> Totals:
        """Return what the run has taken so far."""
        return Totals.of(self.images, time.monotonic() - self._start)

    def run(self, command: str, ending: Ending, why: str | None) -> RunRecord:
        """Return the record of the whole run, when it has ended."""
        with self._lock:
            left_behind = list(self._at_work.values())  # waiting for a server that says nothing
        for record, meter, start in left_behind:
            _measure(record, meter, start)
        return RunRecord(
            command,
            self._started,
            time.monotonic() - self._start,
            ending,
            reason(why),
            self.images,
            self.entries_left,
            self.deleted,
        )


def _measure(record: ImageRecord, meter: Meter, start: float) -> None:
    record.bytes_fetched, record.seconds = meter.done, time.monotonic() - start
