"""Who waits for whom: threads, other paths to the tree, children of fork, the killed."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import fcntl
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import pytest
from oslo_concurrency import lockutils

from image_uploader_plugins.demo import images
from image_uploader_plugins.local_export.driver import LocalExportDriver
from image_uploader_plugins.local_export.garbage import Collector
from image_uploader_plugins.local_export.storage import Storage, locks
from image_uploader_plugins.local_export.storage.ground import Ground
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.reference import ImageRef, RepositoryName
from tests.support import trees

LIMIT = 30  # seconds after which whoever still waits is taken to wait for ever

LAYER = images.layer({"shared": b"shared"})
IMAGE = images.image("ns/here", "1.0", [LAYER])
BESIDE = images.image("ns/here", "2.0", [images.layer({"beside": b"beside"})])
ELSEWHERE = images.image("ns/there", "1.0", [LAYER])

Events = queue.SimpleQueue[str]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """What happens: "waits" when a thread comes to a lock that another one holds."""
    happened: Events = queue.SimpleQueue()
    acquire = threading.Semaphore.acquire

    def watched(
        semaphore: threading.Semaphore, blocking: bool = True, timeout: float | None = None
    ) -> bool:
        if acquire(semaphore, blocking=False):
            return True
        if blocking and timeout is None:
            happened.put("waits")
        return acquire(semaphore, blocking, timeout)

    monkeypatch.setattr(threading.Semaphore, "acquire", watched)
    monkeypatch.setattr(threading.Semaphore, "__enter__", watched)
    return happened


def start(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def in_time(function: Callable[[], object]) -> None:
    """Fails if ``function`` does not come to an end."""
    thread = start(function)
    thread.join(LIMIT)
    assert not thread.is_alive()


@dataclasses.dataclass
class Child:
    """A child of fork at its work; what it says can be read line by line."""

    pid: int
    said: Any

    def says(self) -> str:
        return str(self.said.readline().rstrip())

    def ended(self) -> int:
        self.said.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def fork(work: Callable[[Callable[[str], object]], object]) -> Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_a_child(work, writing)
    os.close(writing)
    return Child(pid, os.fdopen(reading))


def _be_a_child(work: Callable[[Callable[[str], object]], object], writing: int) -> NoReturn:
    try:
        faulthandler.dump_traceback_later(LIMIT, exit=True)
        work(lambda text: os.write(writing, f"{text}\n".encode()))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


@pytest.fixture
def link(root: Path, tmp_path: Path) -> Path:
    """Another path to the root."""
    link = tmp_path / "link"
    link.symlink_to(root)
    return link


@pytest.mark.parametrize("turned", [False, True], ids=["link waits", "root waits"])
def test_a_link_to_the_root_has_the_same_locks(
    root: Path, link: Path, events: Events, turned: bool
) -> None:
    LocalExportDriver(root).close()
    one, other = (Storage(path) for path in ((link, root) if turned else (root, link)))

    def take() -> None:
        with other.lock("x"):
            events.put("taken")

    with one.lock("x"):
        thread = start(take)
        assert events.get(timeout=LIMIT) == "waits"
    thread.join(LIMIT)
    assert events.get(timeout=LIMIT) == "taken"


def test_other_names_and_other_trees_have_other_locks(tmp_path: Path) -> None:
    one, other = Tree(tmp_path / "one"), Tree(tmp_path / "other")
    for tree in (one, other):
        tree.storage.make_root()

    def take() -> None:
        with (
            one.repository_lock(RepositoryName("a/b")),
            one.repository_lock(RepositoryName("a_b")),
            other.repository_lock(RepositoryName("a/b")),
        ):
            pass

    in_time(take)


def test_the_first_two_to_lock_a_tree_meet(
    root: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(root)
    storage.make_root()
    make = lockutils.Semaphores.__init__
    both, go_on = threading.Barrier(2), threading.Event()

    def make_beside_another(semaphores: lockutils.Semaphores) -> None:
        make(semaphores)
        both.wait(LIMIT)

    def take() -> None:
        with storage.lock("x"):
            events.put("taken")
            go_on.wait(LIMIT)

    monkeypatch.setattr(locks, "_semaphores", type(locks._semaphores)(locks._semaphores))
    locks._semaphores.clear()
    monkeypatch.setattr(lockutils.Semaphores, "__init__", make_beside_another)
    threads = [start(take) for _ in range(2)]
    assert {events.get(timeout=LIMIT) for _ in range(2)} == {"taken", "waits"}
    go_on.set()
    for thread in threads:
        thread.join(LIMIT)
    assert events.get(timeout=LIMIT) == "taken"


# -- fork


def test_a_child_of_fork_waits_for_a_thread_of_its_parent(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no longer than that: what the thread held is not held for ever in the child."""
    storage = Storage(root)
    storage.make_root()
    taken, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with storage.lock("x"):
            taken.set()
            go_on.wait(LIMIT)

    def take(say: Callable[[str], object]) -> None:
        try_lock = lockutils.InterProcessLock.trylock

        def watched(lock: lockutils.InterProcessLock) -> None:
            try:
                try_lock(lock)
            except OSError:
                say("waits")
                raise

        monkeypatch.setattr(lockutils.InterProcessLock, "trylock", watched)
        with storage.lock("x"):
            say("taken")

    thread = start(hold)
    assert taken.wait(LIMIT)
    child = fork(take)
    assert child.says() == "waits"
    go_on.set()
    said = child.says()
    while said == "waits":
        said = child.says()
    assert said == "taken"
    assert child.ended() == 0
    thread.join(LIMIT)


@pytest.mark.parametrize("at", [fcntl.flock, os.fsync])
def test_a_child_of_fork_is_not_held_up_by_what_a_thread_was_at(
    root: Path, at: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be making its folder for temporary files, or making names durable."""
    storage = Storage(root)
    storage.make_root()
    reached, go_on = threading.Event(), threading.Event()
    call = Ground.call

    def stopping(tree: Ground, path: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        if function is at and threading.current_thread() is thread:
            reached.set()
            go_on.wait(LIMIT)
        return call(tree, path, function, *args, **kwargs)

    def work() -> None:
        if at is os.fsync:
            storage.settle(PurePosixPath())
            storage.sync()
        storage.write(PurePosixPath("file"), b"parent's")

    def work_as_a_child(say: Callable[[str], object]) -> None:
        storage.write(PurePosixPath("another"), b"child's")
        storage.unlink(PurePosixPath("another"))
        storage.sync()
        storage.close()

    monkeypatch.setattr(Ground, "call", stopping)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert reached.wait(LIMIT)
    assert fork(work_as_a_child).ended() == 0
    go_on.set()
    thread.join(LIMIT)
    assert storage.read(PurePosixPath("file")) == b"parent's"


def test_a_child_of_fork_drops_no_lease_of_its_parent(root: Path) -> None:
    with LocalExportDriver(root) as driver, LocalExportDriver(root) as deleting:
        trees.put(deleting, BESIDE)
        for digest, content in IMAGE.blobs.items():
            driver.upload_layer(IMAGE.repository, [content], expected=digest)

        def end(say: Callable[[str], object]) -> None:
            driver.close()

        assert fork(end).ended() == 0
        deleting.delete(ImageRef(BESIDE.repository, BESIDE.tag or BESIDE.digest))
        put_manifest(driver)
    assert trees.problems(root) == []


def put_manifest(driver: LocalExportDriver) -> None:
    """The manifest of IMAGE alone; raises BlobUnknown if a blob has gone."""
    parsed = IMAGE.manifest
    driver.put_manifest(IMAGE.repository, parsed.content, parsed.media_type, tag=IMAGE.tag)


# -- the killed


def test_a_holder_that_is_killed_leaves_no_lock(root: Path) -> None:
    LocalExportDriver(root).close()
    tree = Tree(root)

    def hold(say: Callable[[str], object]) -> None:
        with contextlib.ExitStack() as stack:
            for digest in IMAGE.blobs:
                stack.enter_context(tree.fetch_lock(digest))
            stack.enter_context(tree.repository_lock(IMAGE.repository))
            stack.enter_context(tree.pool_lock())
            stack.enter_context(tree.catalog_lock())
            say("holds all")
            signal.pause()

    child = fork(hold)
    assert child.says() == "holds all"
    os.kill(child.pid, signal.SIGKILL)
    assert child.ended() == -signal.SIGKILL

    def work() -> None:
        with LocalExportDriver(root) as driver:
            trees.put(driver, IMAGE)
            driver.delete(ImageRef(IMAGE.repository, IMAGE.digest))

    in_time(work)
    assert trees.catalog(root) == []


# -- what locks and leases are for


def test_eight_at_once_fetch_a_blob_once(root: Path, link: Path, events: Events) -> None:
    threads, names = 8, [RepositoryName(f"ns/{n // 2}") for n in range(8)]
    go_on = threading.Event()

    def chunks() -> Iterator[bytes]:
        events.put("fetches")
        assert go_on.wait(LIMIT)
        yield LAYER.content

    with LocalExportDriver(root) as driver, LocalExportDriver(link) as other:

        def upload(number: int) -> None:
            chosen = (driver, other)[number % 2]
            chosen.upload_layer(names[number], chunks(), expected=LAYER.digest)
            events.put("done")

        for number in range(threads):
            start(lambda number=number: upload(number))
        happened = sorted(events.get(timeout=LIMIT) for _ in range(threads))
        assert happened == ["fetches"] + ["waits"] * (threads - 1)
        go_on.set()
        after = []
        while after.count("done") < threads:
            after.append(events.get(timeout=LIMIT))
        assert "fetches" not in after
    blobs = [path for path in root.rglob("*") if LAYER.digest.encoded in path.name]
    blobs = [path for path in blobs if path.is_file() and path.stat().st_size]
    assert {path.parent.parent.name for path in blobs} >= {"0", "1", "2", "3"}
    assert {path.stat().st_ino for path in blobs} == {blobs[0].stat().st_ino}
    assert blobs[0].read_bytes() == LAYER.content


@pytest.mark.parametrize("mounting", [False, True], ids=["uploaded", "mounted"])
def test_nothing_is_swept_from_an_upload_that_has_no_manifest_yet(
    root: Path, mounting: bool
) -> None:
    """Neither by a delete beside it, nor by one of the last image elsewhere, nor by gc."""
    with LocalExportDriver(root) as driver, LocalExportDriver(root) as deleting:
        for image in (BESIDE, ELSEWHERE):
            trees.put(deleting, image)
        present = driver.mount_layers(IMAGE.repository, IMAGE.manifest.blobs()) if mounting else ()
        for digest in IMAGE.blobs.keys() - set(present):
            driver.upload_layer(IMAGE.repository, [IMAGE.blobs[digest]], expected=digest)
        for image in (BESIDE, ELSEWHERE):
            deleting.delete(ImageRef(image.repository, image.digest))
        collector = Collector(Tree(root))
        assert list(collector.collect()) == []
        assert collector.problems == []
        put_manifest(driver)
    assert trees.problems(root) == []
    assert Verification(Tree(root)).report().findings == ()
