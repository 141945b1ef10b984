# SPDX-License-Identifier: Apache-2.0
"""Copying many images into one driver: several at once, which share threads and blobs."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import queue
from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar

from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.dry_driver import DryDriver
from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.copying.remembered import Memory, RememberedSource
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.copying.transfers import WORKERS, Transfers
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.pace import LONGEST_WAIT
from image_uploader_plugins.runs.records import ImageRecord
from image_uploader_plugins.sources.mirrored_source import MirroredSource
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.source import Source

IMAGES = 16
"""Images that are copied at once; while some wait for the disk, others go on."""

_GRACE = 3  # seconds for transfers in flight to end when the run is told to

_T = TypeVar("_T")
_R = TypeVar("_R")


class Engine:
    """Copies images of registries into ``driver``: at most ``images`` at once.

    The blobs of all of them come by ``workers`` threads, and what several need
    comes once.  ``meter`` is that of the whole run.  Safe to use from several
    threads; as a context manager it ends its own.
    """

    def __init__(
        self,
        driver: UploaderDriver,
        registries: Registries,
        meter: Meter,
        images: int = IMAGES,
        workers: int = WORKERS,
    ) -> None:
        self._driver = driver
        self._registries = registries
        self._meter = meter
        self._images = images
        self._transfers = Transfers(workers)

    def each(self, work: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        """Yield what ``work`` returns for each item, in the order in which they end.

        Items are taken when their turn is near.  What ``work`` raises ends the
        run, as a signal does: the meter is stopped, and transfers in flight
        end at their next piece.
        """
        pool = concurrent.futures.ThreadPoolExecutor(self._images, "image")
        to_come = iter(items)
        begun: set[concurrent.futures.Future[_R]] = set()
        ended: queue.SimpleQueue[concurrent.futures.Future[_R]] = queue.SimpleQueue()
        try:
            while True:
                # As many again wait, so that a thread finds its next one by itself.
                for item in itertools.islice(to_come, 2 * self._images - len(begun)):
                    job = pool.submit(work, item)
                    begun.add(job)
                    job.add_done_callback(ended.put)
                if not begun:
                    break
                with contextlib.suppress(queue.Empty):
                    job = ended.get(timeout=LONGEST_WAIT)
                    begun.remove(job)
                    yield job.result()
        except BaseException:
            self._meter.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            # What silent servers do not send is not waited for.
            running = [job for job in begun if not job.cancelled()]
            concurrent.futures.wait(running, timeout=_GRACE)
            raise
        pool.shutdown()

    def copy(
        self,
        job: Job,
        record: ImageRecord,
        meter: Meter,
        options: CopyOptions,
        *,
        all_platforms: bool,
        memory: Memory | None = None,
    ) -> Manifest:
        """Copy an image of a registry; ``meter`` is its own, ``memory`` that of plan().

        Returns and raises as Copier.copy().
        """
        with self._copier(self._driver, job, record, meter, options, memory) as copier:
            return copier.copy(job.reference, job.tag, all_platforms=all_platforms)

    def plan(
        self,
        job: Job,
        record: ImageRecord,
        options: CopyOptions,
        memory: Memory,
        *,
        all_platforms: bool,
    ) -> DryDriver:
        """Return what copying an image would bring; its record says what would become of it.

        It goes the way of copy(), which then finds the source's answers in
        ``memory``, and raises as that does.
        """
        dry = DryDriver(self._driver)
        with self._copier(dry, job, record, Meter(self._meter), options, memory) as copier:
            copier.copy(job.reference, job.tag, all_platforms=all_platforms)
        return dry

    def source(self, job: Job, memory: Memory | None = None, meter: Meter | None = None) -> Source:
        """Return the source of an image, which is asked for what is not in its ``memory``."""
        source = self._mirrored(job, meter or self._meter)
        return RememberedSource(source, memory) if memory else source

    def _mirrored(self, job: Job, meter: Meter) -> MirroredSource:
        return MirroredSource.of(self._registries, job.host, str(job.name), meter)

    @contextlib.contextmanager
    def _copier(
        self,
        driver: UploaderDriver,
        job: Job,
        record: ImageRecord,
        meter: Meter,
        options: CopyOptions,
        memory: Memory | None,
    ) -> Iterator[Copier]:
        """Return what copies one image; the record then says whether its source was verified."""
        mirrored = self._mirrored(job, meter)
        source = RememberedSource(mirrored, memory) if memory else mirrored
        copier = Copier(
            driver, job.target, source, record, meter, options, transfers=self._transfers
        )
        copier.told = memory is not None and driver is self._driver
        try:
            yield copier
        finally:
            record.insecure = not mirrored.is_verified

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._transfers.close(wait=kind is None)
