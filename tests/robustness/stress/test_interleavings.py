# SPDX-License-Identifier: Apache-2.0
"""One operation stops before each step that others see, and meanwhile another runs.

No luck is needed: whoever wants a lock that the stopped one holds lets it go
on; everything else happens while it stands.
"""

from __future__ import annotations

import collections
import dataclasses
import faulthandler
import fcntl
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance import adopt as adoption
from image_uploader_plugins.local_export.maintenance.collect import Collector
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.reference import ImageRef
from image_uploader_plugins.storage import entries, folders
from image_uploader_plugins.storage.folders import Folders
from image_uploader_plugins.storage.locks import Lock, Locks
from image_uploader_plugins.testing import images
from tests.support import legacy, trees

LIMIT = 120  # seconds until operations that wait for each other are shown and ended

LAYER = images.layer({"shared": b"shared"})
OLD = images.image("ns/old", "1.0", [LAYER])
KEPT = images.image("ns/old", "kept", [images.layer({"kept": b"kept"})])
NEW = images.image("ns/new", "1.0", [LAYER])
BESIDE = images.image("ns/old", "2.0", [images.layer({"beside": b"beside"})])
SBOM = images.artifact("ns/old", None, "application/x", b"sbom", subject=KEPT.descriptor())
NOTE = images.artifact("ns/old", None, "application/x", b"note", subject=KEPT.descriptor())

# What others see, and what is read to decide on that; not what happens to temporary files.
CHANGING = frozenset({os.rename, os.link, os.symlink, os.unlink, os.rmdir, folders.make_folder})
DECIDING = CHANGING | {entries.listing, os.stat, fcntl.flock}

Operation = Callable[[Path], object]


class Interleaving:
    """Stops a thread at one of its ``calls`` until somebody needs what it holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, calls: frozenset[object]) -> None:
        self._thread: threading.Thread | None = None
        self._at = self._calls = 0
        self._reached, self._go_on = threading.Event(), threading.Event()
        self._holders: dict[str, list[threading.Thread]] = collections.defaultdict(list)
        call, taken, release = Folders.call, Locks.taken, Locks.release

        def stopping(tree: Folders, path: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
            if function in calls and threading.current_thread() is self._thread:
                self._count()
            return call(tree, path, function, *args, **kwargs)

        def taking(locks: Locks, name: str, how: Any, **kwargs: Any) -> Lock | None:
            if self._thread in self._holders[name]:
                self._go_on.set()
            lock = taken(locks, name, how, **kwargs)
            if lock:
                self._holders[name].append(threading.current_thread())
            return lock

        def releasing(locks: Locks, name: str, lock: Lock) -> None:
            self._holders[name].remove(threading.current_thread())
            release(locks, name, lock)

        monkeypatch.setattr(Folders, "call", stopping)
        monkeypatch.setattr(Locks, "taken", taking)
        monkeypatch.setattr(Locks, "release", releasing)

    def _count(self) -> None:
        self._calls += 1
        if self._calls == self._at:
            self._reached.set()
            self._go_on.wait()

    def run(self, at: int, stopped: Callable[[], object], other: Callable[[], object]) -> bool:
        """Stop at the ``at``-th call; whether there are so many.  Raises what either raises."""
        errors: list[BaseException] = []

        def target() -> None:
            try:
                stopped()
            except BaseException as e:
                errors.append(e)
            finally:
                self._reached.set()

        self._thread = threading.Thread(target=target)
        self._at, self._calls = at, 0
        self._reached.clear()
        self._go_on.clear()
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        self._thread.start()
        try:
            self._reached.wait()
            other()
        finally:
            self._go_on.set()
            self._thread.join()
            self._thread = None
            faulthandler.cancel_dump_traceback_later()
        if errors:
            raise errors[0]
        return self._calls >= at


def fill(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        for image in (OLD, KEPT):
            trees.put(driver, image)


def put(*put: images.Image, mounting: bool = True) -> Operation:
    """What a copy into the tree does: mount what is there, upload the rest, put the manifest."""

    def operation(root: Path) -> None:
        with LocalExportDriver(root) as driver:
            for image in put:
                asked = image.manifest.blobs() if mounting else ()
                present = driver.mount_layers(image.repository, asked)
                for digest in image.blobs.keys() - set(present):
                    content = image.blobs[digest]
                    driver.upload_layer(image.repository, [content], expected=digest)
                parsed = image.manifest
                driver.put_manifest(
                    image.repository, parsed.content, parsed.media_type, tag=image.tag
                )

    return operation


def delete(image: images.Image) -> Operation:
    def operation(root: Path) -> None:
        with LocalExportDriver(root) as driver:
            driver.delete(ImageRef(image.repository, image.tag or image.digest))

    return operation


def collect(root: Path) -> None:
    tree = Tree(root)
    collector = Collector(tree)
    list(collector.collect())
    assert collector.problems == []
    tree.close()


def verify(root: Path) -> None:
    """Somebody at work is no damage."""
    tree = Tree(root)
    assert Verification(tree).report().findings == ()
    tree.close()


def adopt(root: Path) -> None:
    tree = Tree(root)
    assert all(blob.intact for blob in adoption.adopt(tree))
    tree.close()


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two operations, and the images that are there when both are done."""

    one: Operation
    other: Operation
    left: tuple[images.Image, ...]
    prepare: Operation = fill
    calls: frozenset[object] = DECIDING


def write_old(root: Path) -> None:
    """A tree whose blobs are in no pool, and the foundation of ours."""
    for image in (OLD, KEPT):
        legacy.write_image(root, image, str(image.tag))
    fill(root)
    shutil.rmtree(root / ".local-export/pool")


PAIRS = {
    # The layer's last holder goes while another repository takes it.
    "put and delete": Pair(put(NEW), delete(OLD), (KEPT, NEW)),
    # The upload has no manifest yet, and what is deleted shares its repository.
    "upload and delete beside it": Pair(put(BESIDE, mounting=False), delete(OLD), (KEPT, BESIDE)),
    "two tags": Pair(put(BESIDE), put(images.image("ns/old", "3.0", [LAYER])), (OLD, KEPT, BESIDE)),
    "two referrers": Pair(put(SBOM), put(NOTE), (OLD, KEPT, SBOM, NOTE)),
    "two repositories": Pair(
        put(NEW), put(images.image("ns/other", "1.0", [LAYER])), (OLD, KEPT, NEW)
    ),
    "two deletes": Pair(delete(OLD), delete(KEPT), ()),
    "one tag twice": Pair(put(BESIDE), put(BESIDE), (OLD, KEPT, BESIDE)),
    "put and gc": Pair(put(NEW), collect, (OLD, KEPT, NEW)),
    "put and verify": Pair(put(NEW), verify, (OLD, KEPT, NEW)),
    "delete and verify": Pair(delete(OLD), verify, (KEPT,)),
    # A repair looks at everything several times.
    "put and repair": Pair(put(NEW), trees.mended, (OLD, KEPT, NEW), calls=CHANGING),
    "put and adopt": Pair(put(NEW), adopt, (OLD, KEPT, NEW), write_old),
}


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder where syncing costs nothing: what is there after a crash is tested elsewhere."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.mark.slow
@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
@pytest.mark.parametrize("name", PAIRS)
def test_every_interleaving(
    in_memory: Path, name: str, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = PAIRS[name]
    one, other = (pair.other, pair.one) if turned else (pair.one, pair.other)
    root, prepared = in_memory / "tree", in_memory / "prepared"
    pair.prepare(prepared)
    expected = undisturbed(root, prepared, one, other)
    interleaving = Interleaving(monkeypatch, pair.calls)
    for at in itertools.count(1):
        copy(prepared, root)
        more = interleaving.run(at, lambda: one(root), lambda: other(root))
        problems = trees.problems(root)
        assert problems == [], f"stopped at call {at}"
        for image in pair.left:
            repository = Tree(root).repository(image.repository)
            assert image.digest in repository.manifests(), f"stopped at call {at}"
        assert trees.served(root) == expected, f"stopped at call {at}"
        if not more:
            break
    assert at > 5


def undisturbed(
    root: Path, prepared: Path, one: Operation, other: Operation
) -> Mapping[str, object]:
    """The tree when they run one after the other."""
    copy(prepared, root)
    one(root)
    other(root)
    return trees.served(root)


def copy(prepared: Path, root: Path) -> None:
    """With its links, hard ones and symbolic ones."""
    shutil.rmtree(root, ignore_errors=True)
    trees.copy(prepared, root)
