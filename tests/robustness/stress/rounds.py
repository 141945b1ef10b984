# SPDX-License-Identifier: Apache-2.0
"""One round: a plan carried out at once beside readers, and once more in order."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import faulthandler
import itertools
import multiprocessing
import re
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from tests.robustness.stress import writers
from tests.robustness.stress.client import Client
from tests.robustness.stress.readers import Reader
from tests.robustness.stress.writers import Counts, Shape
from tests.support import trees, web

LIMIT = 600
"""Seconds until writers or readers that are not done count as deadlocked; stacks are shown."""

_STATE = ".local-export"


@dataclasses.dataclass
class Report:
    """``bad`` has a line for each thing that must not be."""

    operations: Counts = dataclasses.field(default_factory=Counts)
    reads: Counts = dataclasses.field(default_factory=Counts)
    bad: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Report) -> None:
        self.operations += other.operations
        self.reads += other.reads
        self.bad += other.bad


def play(folder: Path, shape: Shape, readers: int, kinds: Sequence[web.Kind]) -> Report:
    """One round in ``folder``, which must be empty; the servers' user must get there."""
    faulthandler.dump_traceback_later(3 * LIMIT, exit=True)
    busy, calm = folder / "at-once", folder / "in-order"
    made = shape.plan()
    with LocalExportDriver(busy) as driver:
        writers.run(driver, made.prelude)
    report = Report()
    with _reading(busy, shape, readers, kinds, report):
        report.operations, failures = writers.at_once(busy, shape, LIMIT)
        writers.settle(busy, made.repositories())
    report.bad += failures
    writers.in_order(calm, made)
    report.bad += _differences(busy, calm)
    faulthandler.cancel_dump_traceback_later()
    return report


@contextlib.contextmanager
def _reading(
    root: Path, shape: Shape, readers: int, kinds: Sequence[web.Kind], report: Report
) -> Iterator[None]:
    """Readers at work, spread over all servers; what they saw goes into ``report``."""
    context = multiprocessing.get_context("spawn")
    started, done = context.Barrier(readers + 1), context.Event()
    with contextlib.ExitStack() as stack:
        addresses = [(kind, stack.enter_context(web.serve(kind, root))) for kind in kinds]
        pool = stack.enter_context(
            concurrent.futures.ProcessPoolExecutor(
                readers, context, initializer=_initialise, initargs=(started, done)
            )
        )
        stack.callback(done.set)
        servers = itertools.islice(itertools.cycle(addresses), readers)
        reading = [pool.submit(_read, *at, shape, number) for number, at in enumerate(servers)]
        started.wait(LIMIT)
        yield
        done.set()
        for (kind, _), reader in zip(itertools.cycle(addresses), reading, strict=False):
            try:
                reads, bad = reader.result()
            except concurrent.futures.process.BrokenProcessPool:
                report.bad.append(f"a reader of {kind} died: killed, or hanging")
            else:
                report.reads[kind] += reads
                report.bad += bad


_signals: tuple[multiprocessing.synchronize.Barrier, Event] | None = None


def _initialise(started: multiprocessing.synchronize.Barrier, done: Event) -> None:
    global _signals
    _signals = started, done


def _read(kind: web.Kind, address: str, shape: Shape, number: int) -> tuple[int, list[str]]:
    """Read without pause until the writers are done, and everything at least once."""
    assert _signals is not None
    started, done = _signals
    client = Client(kind, address)
    reader = Reader(shape.plan(), client, shape.seed + number)
    bad: list[str] = []
    started.wait(LIMIT)
    for first in itertools.chain([True], itertools.repeat(False)):
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        for found in reader.rounds():
            bad += [found] if found else []
            if done.is_set() and not first:
                break
        if done.is_set():
            break
    # All that was written is there now, whatever happened meanwhile.
    bad += [found for found in reader.rounds() if found]
    faulthandler.cancel_dump_traceback_later()
    client.close()
    return client.reads, bad


def _differences(busy: Path, calm: Path) -> Iterator[str]:
    """What readers get, the pool, and which files are one must be equal; and no rest remain.

    What may differ: inodes and times; the folders of the private state, and
    its locks, which stay as they were made; folders with no page in them,
    which go when a repository is empty for a moment; which removed items are
    remembered, since an empty list remembers none.  Leases must be gone, since
    all drivers were closed: only those of a killed one time out.
    """
    for name, root in (("at once", busy), ("in order", calm)):
        yield from (f"{name}: {problem}" for problem in trees.problems(root))
        yield from (f"{name}: {found}" for found in Verification(Tree(root)).report().findings)
        for part in ("leases", "staging", "unfinished"):
            left = [path for path in (root / _STATE / part).rglob("*") if path.is_file()]
            yield from (f"{name}: left behind: {path.relative_to(root)}" for path in left)
    for what, look in (("served", trees.served), ("folders", _folders), ("pool", _pool)):
        one, other = look(busy), look(calm)
        for path in sorted(one.keys() | other.keys()):
            if one.get(path) != other.get(path) and not _REMEMBERED.search(path):
                yield f"{what}: {path}: at once {_short(one, path)}, in order {_short(other, path)}"


# The links to windows after removed items, and the link that leads clients to them.
_REMEMBERED = re.compile(r"/\.(?:pages|catalog)/(?:\.gone(?:/|$)|1/\.finer$)")


def _short(found: Mapping[str, object], path: str) -> str:
    return f"{found[path]!r:.60}" if path in found else "absent"


def _folders(root: Path) -> dict[str, object]:
    folders = [path for path in (root / "v2").rglob("[!.]*") if path.is_dir()]
    return {str(path.relative_to(root)): "folder" for path in folders}


def _pool(root: Path) -> dict[str, object]:
    """The pool's files, with all repositories' blobs that are links to them."""
    names: dict[int, list[str]] = {}
    for path in sorted((root / "v2").rglob("blobs/*")):
        names.setdefault(path.stat().st_ino, []).append(str(path.relative_to(root)))
    files = [path for path in (root / _STATE / "pool").rglob("*") if path.is_file()]
    return {str(p.relative_to(root)): names.get(p.stat().st_ino, []) for p in files}
