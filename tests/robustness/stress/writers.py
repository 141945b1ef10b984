# SPDX-License-Identifier: Apache-2.0
"""Carries out a plan: all lanes at once in processes and threads, or one after the other."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import faulthandler
import itertools
import multiprocessing
import tempfile
import threading
from collections.abc import Iterable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from tests.robustness.stress import plan
from tests.robustness.stress.plan import Delete, Lane, Mount, Plan, Step, Upload
from tests.support import trees

_CHUNK = 64 * 1024
_SETTLED = Tag("no-such-tag")

Counts = collections.Counter[str]


@dataclasses.dataclass(frozen=True)
class Shape:
    """The arguments of plan.make(): any process makes the same plan of them."""

    seed: int
    workers: int
    threads: int
    length: int
    tags: int

    def plan(self) -> Plan:
        return plan.make(**dataclasses.asdict(self))


def carry_out(driver: UploaderDriver, step: Step) -> None:
    """One call of the driver; for Mount, also the uploads that it leaves to do."""
    if isinstance(step, Upload):
        driver.upload_layer(step.repository, _chunks(step.content), expected=step.digest)
    elif isinstance(step, Mount):
        sources = dict.fromkeys(step.blobs, step.source)
        present = driver.mount_layers(step.repository, trees.described(*step.blobs), sources)
        for digest in step.blobs.keys() - present:
            driver.upload_layer(step.repository, _chunks(step.blobs[digest]), expected=digest)
    elif isinstance(step, Delete):
        driver.delete(step.target)
    else:
        parsed, repository = step.image.manifest, step.image.repository
        driver.put_manifest(
            repository,
            parsed.content,
            parsed.media_type,
            tag=step.tag,
            config=step.config,
            expected=step.digest,
        )


def run(driver: UploaderDriver, steps: Iterable[Step]) -> Counts:
    counts: Counts = collections.Counter()
    for step in steps:
        carry_out(driver, step)
        counts[type(step).__name__.lower()] += 1
    return counts


def settle(root: Path, repositories: Iterable[RepositoryName]) -> None:
    """Delete something absent from each repository.

    What a moved tag left, and what an upload dropped when its driver was
    closed, stays until the next delete; which lane's that is depends on who
    came first.
    """
    with LocalExportDriver(root) as driver:
        for name in sorted(repositories):
            with contextlib.suppress(errors.ImageUnknown):
                driver.delete(ImageRef(name, _SETTLED))


def in_order(root: Path, made: Plan) -> None:
    """The whole plan by one driver in one thread, lane after lane."""
    with LocalExportDriver(root) as driver:
        run(driver, made.steps())
    settle(root, made.repositories())


def at_once(root: Path, shape: Shape, limit: float) -> tuple[Counts, list[str]]:
    """All lanes of a plan, whose prelude is done: what was done, and what failed.

    A process that is not done after ``limit`` seconds writes where all its
    threads are to stderr and ends: that is a deadlock.
    """
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(shape.workers)
    counts, failures = Counts(), []
    with concurrent.futures.ProcessPoolExecutor(
        shape.workers, context, initializer=_initialise, initargs=(start,)
    ) as pool:
        workers = [pool.submit(_work, root, shape, n, limit) for n in range(shape.workers)]
        for number, worker in enumerate(workers):
            try:
                done, failed = worker.result()
            except concurrent.futures.process.BrokenProcessPool:
                failures.append(f"worker {number} died: killed, or not done in {limit} seconds")
            else:
                counts += done
                failures += failed
    return counts, failures


_start: Barrier | None = None


def _initialise(start: Barrier) -> None:
    global _start
    _start = start


def _work(root: Path, shape: Shape, number: int, limit: float) -> tuple[Counts, list[str]]:
    faulthandler.dump_traceback_later(limit, exit=True)
    lanes = shape.plan().lanes[number]
    assert _start is not None
    _start.wait()
    # Threads share a driver, and every other one has another, which comes by another path.
    with (
        _by_another_path(root) as link,
        LocalExportDriver(root) as driver,
        LocalExportDriver(link) as other,
    ):
        drivers = itertools.cycle((driver, other))
        result = _threads(list(zip(drivers, lanes, strict=False)), number)
    faulthandler.cancel_dump_traceback_later()
    return result


def _threads(work: list[tuple[LocalExportDriver, Lane]], worker: int) -> tuple[Counts, list[str]]:
    counts, failures = Counts(), []
    with concurrent.futures.ThreadPoolExecutor(len(work)) as pool:
        together = threading.Barrier(len(work))
        lanes = [pool.submit(_lane, *part, together) for part in work]
        for number, lane in enumerate(lanes):
            done, failure = lane.result()
            counts += done
            failures += [f"lane {worker}.{number}, {failure}"] if failure else []
    return counts, failures


def _lane(
    driver: LocalExportDriver, steps: Lane, together: threading.Barrier
) -> tuple[Counts, str | None]:
    counts = Counts()
    together.wait()
    for number, step in enumerate(steps):
        try:
            counts += run(driver, [step])
        except Exception as e:  # whatever it is, it is what we look for
            return counts, f"step {number}: {step}: {e!r}"
    return counts, None


@contextlib.contextmanager
def _by_another_path(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "link"
        link.symlink_to(root)
        yield link


def _chunks(content: bytes) -> Iterable[bytes]:
    return (content[at : at + _CHUNK] for at in range(0, len(content), _CHUNK))
