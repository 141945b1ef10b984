# SPDX-License-Identifier: Apache-2.0
"""Who waits for whom: threads, other paths to the tree, children of fork, the killed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import faulthandler
import fcntl
import functools
import os
import queue
import select
import shutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import fetches
from image_uploader_plugins.local_export.layout import PLACES, RepositoryLayout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance.collect import Collector
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.reference import ImageRef, RepositoryName
from image_uploader_plugins.storage import NotFound, Storage, locks
from image_uploader_plugins.storage.folders import Folders, sync_all
from image_uploader_plugins.testing import images
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
    block, pause = locks.block, fetches.pause
    waiting = threading.local()

    def blocking(descriptor: int) -> None:
        happened.put("waits")
        block(descriptor)

    def pausing(seconds: float) -> None:
        if not hasattr(waiting, "said"):
            happened.put("waits")
            waiting.said = True
        pause(seconds)

    monkeypatch.setattr(locks, "block", blocking)
    monkeypatch.setattr(fetches, "pause", pausing)
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
    one, other = (Storage(path, PLACES) for path in ((link, root) if turned else (root, link)))

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
    """Both find no lock file there, and make it."""
    storage = Storage(root, PLACES)
    storage.make_root()
    make = locks.Locks._open_file
    both, go_on = threading.Barrier(2), threading.Event()

    def make_beside_another(held: locks.Locks, path: str, folder: int, *, is_new: bool) -> int:
        both.wait(LIMIT)
        return make(held, path, folder, is_new=is_new)

    def take() -> None:
        with storage.lock("x"):
            events.put("taken")
            go_on.wait(LIMIT)

    monkeypatch.setattr(locks.Locks, "_open_file", make_beside_another)
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
    storage = Storage(root, PLACES)
    storage.make_root()
    taken, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with storage.lock("x"):
            taken.set()
            go_on.wait(LIMIT)

    def take(say: Callable[[str], object]) -> None:
        block = locks.block

        def blocking(descriptor: int) -> None:
            say("waits")
            block(descriptor)

        monkeypatch.setattr(locks, "block", blocking)
        with storage.lock("x"):
            say("taken")

    thread = start(hold)
    assert taken.wait(LIMIT)
    child = fork(take)
    assert child.says() == "waits"
    go_on.set()
    assert child.says() == "taken"
    assert child.ended() == 0
    thread.join(LIMIT)


@pytest.mark.parametrize("at", [fcntl.flock, sync_all])
def test_a_child_of_fork_is_not_held_up_by_what_a_thread_was_at(
    root: Path, at: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be making its folder for temporary files, or making names durable."""
    storage = Storage(root, PLACES)
    storage.make_root()
    reached, go_on = threading.Event(), threading.Event()
    call = Folders.call

    def stopping(tree: Folders, path: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        if function is at and threading.current_thread() is thread:
            reached.set()
            go_on.wait(LIMIT)
        return call(tree, path, function, *args, **kwargs)

    def work() -> None:
        if at is sync_all:
            storage.settle(PurePosixPath())
            storage.sync()
        storage.write(PurePosixPath("file"), b"parent's")

    def work_as_a_child(say: Callable[[str], object]) -> None:
        storage.write(PurePosixPath("another"), b"child's")
        storage.unlink(PurePosixPath("another"))
        storage.sync()
        storage.close()

    monkeypatch.setattr(Folders, "call", stopping)
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


@pytest.mark.slow
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
            start(functools.partial(upload, number))
        happened = sorted(events.get(timeout=LIMIT) for _ in range(threads))
        assert happened == ["fetches"] + ["waits"] * (threads - 1)
        go_on.set()
        after: list[str] = []
        while after.count("done") < threads:
            after.append(events.get(timeout=LIMIT))
        assert "fetches" not in after
    blobs = [path for path in root.rglob("*") if LAYER.digest.encoded in path.name]
    blobs = [path for path in blobs if path.is_file() and path.stat().st_size]
    assert {path.parent.parent.name for path in blobs} >= {"0", "1", "2", "3"}
    assert {path.stat().st_ino for path in blobs} == {blobs[0].stat().st_ino}
    assert blobs[0].read_bytes() == LAYER.content


@pytest.mark.parametrize(
    ("size", "told", "waits"),
    [
        (1024 * 1024 - 1, True, False),
        (1024 * 1024, True, True),
        (1, False, True),
    ],
)
def test_only_large_content_waits_for_the_fetch_of_another(
    root: Path, link: Path, events: Events, size: int, told: bool, waits: bool
) -> None:
    """What comes second is as good, and nothing of it stays beside the first."""
    content = b"x" * size
    digest = Digest.of(content)

    with LocalExportDriver(root) as driver, LocalExportDriver(link) as other:

        def upload(chosen: LocalExportDriver, name: str, chunks: Iterable[bytes]) -> None:
            chosen.upload_layer(
                RepositoryName(name), chunks, expected=digest, size=size if told else None
            )
            events.put(name)

        def first() -> Iterator[bytes]:
            yield content[:1]
            threads.append(start(functools.partial(upload, other, "ns/second", [content])))
            assert events.get(timeout=LIMIT) == ("waits" if waits else "ns/second")
            yield content[1:]

        threads: list[threading.Thread] = []
        upload(driver, "ns/first", first())
        threads[0].join(LIMIT)
    blobs = [root / f"v2/ns/{name}/blobs/{digest}" for name in ("first", "second")]
    assert [blob.stat().st_nlink for blob in blobs] == [3, 3]  # with the pool's
    assert [blob.read_bytes() for blob in blobs] == [content] * 2
    assert not list((root / ".local-export/staging").iterdir())


@pytest.mark.slow
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


# -- lock files, and those who have them open


def lock_files(root: Path) -> set[str]:
    return {path.name for path in (root / ".local-export/locks").iterdir()}


def test_many_threads_and_a_lock_whose_file_goes_each_time(root: Path) -> None:
    """Who waits for a file that is gone takes the next one: there is one holder at a time."""
    storage = Storage(root, PLACES)
    storage.make_root()
    inside, most, rounds = [0], [0], 40

    def work() -> None:
        for _ in range(rounds):
            with storage.lock("x"):
                storage.forget_lock("x")
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [start(work) for _ in range(8)]
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    assert most == [1]
    assert lock_files(root) == set()


@pytest.mark.slow
def test_many_processes_and_a_lock_whose_file_goes_each_time(root: Path, tmp_path: Path) -> None:
    storage = Storage(root, PLACES)
    storage.make_root()
    mark = tmp_path / "inside"

    def work(say: Callable[[str], object]) -> None:
        for _ in range(100):
            with storage.lock("x"):
                storage.forget_lock("x")
                mark.mkdir()  # raises where somebody else is inside
                mark.rmdir()

    children = [fork(work) for _ in range(6)]
    assert [child.ended() for child in children] == [0] * 6
    assert lock_files(root) == set()


def test_who_waited_for_a_file_that_was_replaced_tries_again(root: Path, events: Events) -> None:
    """Also where a file is there again, and another one."""
    storage = Storage(root, PLACES)
    storage.make_root()

    def take() -> None:
        with storage.lock("x"):
            events.put("taken")

    with contextlib.ExitStack() as second:
        with storage.lock("x"):
            thread = start(take)
            assert events.get(timeout=LIMIT) == "waits"
            (path,) = (root / ".local-export/locks").iterdir()
            path.unlink()
            second.enter_context(Storage(root, PLACES).lock("x"))
        # It holds what it has waited for, sees that this is no lock any more, and waits again.
        assert events.get(timeout=LIMIT) == "waits"
    thread.join(LIMIT)
    assert events.get(timeout=LIMIT) == "taken"


def test_a_child_of_fork_keeps_no_lock_of_a_parent_that_is_killed(root: Path) -> None:
    storage = Storage(root, PLACES)
    storage.make_root()

    def hold(say: Callable[[str], object]) -> None:
        with storage.lock("x"), storage.try_lock("y", transient=True):
            grandchild = os.fork()
            if not grandchild:
                signal.alarm(LIMIT)
                say(str(os.getpid()))
                signal.pause()
            signal.pause()

    child = fork(hold)
    grandchild = int(child.says())
    os.kill(child.pid, signal.SIGKILL)
    assert child.ended() == -signal.SIGKILL
    try:
        in_time(lambda: storage.lock("x").__enter__())
        with storage.try_lock("y") as lock:
            assert lock
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_a_child_of_fork_releases_no_lock_of_its_parent(root: Path) -> None:
    """Not even when it leaves the block that it was made in."""
    storage = Storage(root, PLACES)
    storage.make_root()
    reading, writing = os.pipe()
    pid = 0
    with storage.try_lock("x", transient=True):
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            with storage.try_lock("x") as other:
                assert other is None
    if not pid:
        os._exit(0)
    os.close(reading)
    os.close(writing)
    assert lock_files(root) == set()


def test_a_lock_that_is_released_is_free_for_all_that_children_of_fork_have_open(
    root: Path,
) -> None:
    """A child that did not know of it, as one of another fork(2), shares the open file."""
    storage = Storage(root, PLACES)
    storage.make_root()
    with storage.lock("x") as lock:
        kept = os.dup(lock.descriptor)
    with storage.try_lock("x") as other:
        assert other
    os.close(kept)


def test_a_lock_that_goes_with_its_holder_costs_one_open(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fetch of a blob takes one, which is nearly always new."""
    storage = Storage(root, PLACES)
    storage.make_root()
    with storage.try_lock("x", transient=True):
        pass
    flags: list[int] = []

    def opening(name: str, how: int, *args: Any, **kwargs: Any) -> int:
        flags.append(how)
        return original(name, how, *args, **kwargs)

    original = os.open
    monkeypatch.setattr(os, "open", opening)
    with storage.try_lock("x", transient=True) as lock:
        assert lock
        assert [how & os.O_EXCL for how in flags] == [os.O_EXCL]
        with storage.try_lock("x", transient=True) as other:
            assert other is None
    assert lock_files(root) == set()


def test_nothing_is_left_of_a_repository_that_is_deleted(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, ELSEWHERE)
        before = lock_files(root)
        trees.put(driver, IMAGE)
        assert len(lock_files(root)) == len(before) + 1
        driver.delete(ImageRef(IMAGE.repository, IMAGE.digest))
    assert lock_files(root) == before
    leases = {path.name for path in (root / ".local-export/leases").iterdir()}
    assert leases == {RepositoryLayout(ELSEWHERE.repository).key}


def test_gc_removes_locks_and_lease_folders_that_nobody_needs(root: Path) -> None:
    """Of uploads that failed, and of versions that kept them all."""
    with LocalExportDriver(root) as driver:
        trees.put(driver, IMAGE)
        before = lock_files(root)
        tree = Tree(root)
        with tree.repository_lock(RepositoryName("never/there")):
            pass
        for number in range(20):
            (root / ".local-export/locks" / f"{number:064x}").touch()
        (root / ".local-export/leases/0123").mkdir()
        with tree.storage.lock("in use"):
            assert list(Collector(Tree(root)).collect()) == []
            assert len(lock_files(root)) == len(before) + 1
        assert list(Collector(Tree(root)).collect()) == []
    assert lock_files(root) == before
    assert not (root / ".local-export/leases/0123").exists()


def test_a_lease_whose_folder_goes_meanwhile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch = Storage.touch
    gone: list[PurePosixPath] = []

    def touching(storage: Storage, path: PurePosixPath, content: bytes) -> None:
        if not gone:
            gone.append(path)
            raise NotFound(path, "gone")
        touch(storage, path, content)

    monkeypatch.setattr(Storage, "touch", touching)
    with LocalExportDriver(root) as driver:
        trees.put(driver, IMAGE)
    assert gone
    assert trees.problems(root) == []


@pytest.mark.parametrize("hold", [True, False])
def test_whether_locks_hold_here_can_be_asked(
    root: Path, hold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(root, PLACES)
    storage.make_root()
    if not hold:
        monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    assert storage.locks_exclude() is hold
    assert lock_files(root) == set()


def test_a_file_system_without_locks_says_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(root, PLACES)
    storage.make_root()

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(errors.StorageError, match="No locks available"):
        storage.locks_exclude()


def test_a_signal_ends_the_wait_for_a_lock(root: Path) -> None:
    storage = Storage(root, PLACES)
    storage.make_root()

    class Ended(Exception):
        pass

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Ended

    def wait(say: Callable[[str], object]) -> None:
        signal.signal(signal.SIGTERM, end)
        block = locks.block

        def blocking(descriptor: int) -> None:
            say("waits")
            block(descriptor)

        locks.block = blocking
        with contextlib.suppress(Ended), storage.lock("x"):
            say("taken")
        say("ended")

    with storage.lock("x"):
        child = fork(wait)
        assert child.says() == "waits"
        # One that comes just before it waits does not end the wait.
        while not select.select([child.said], [], [], 0.1)[0]:
            os.kill(child.pid, signal.SIGTERM)
        assert child.says() == "ended"
    assert child.ended() == 0


@pytest.mark.parametrize("plant", [os.mkfifo, os.mkdir, lambda p: p.symlink_to("/dev/null")])
def test_what_is_no_file_is_no_lock(root: Path, plant: Callable[[Path], None]) -> None:
    LocalExportDriver(root).close()
    for path in (root / ".local-export/locks").iterdir():
        path.unlink()
        plant(path)
    with pytest.raises(errors.StorageError, match=r"locks/[0-9a-f]{64}: "):
        LocalExportDriver(root)


def test_progress_is_not_told_in_a_file_that_has_another_name(root: Path, tmp_path: Path) -> None:
    """Whoever can make a link in the tree would have us cut the file off."""
    storage = Storage(root, PLACES)
    storage.make_root()
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    with storage.lock("x") as lock:
        lock.tell(5_000_000)
        assert 4_990_000 < storage.lock_progress("x") <= 5_000_000
    (path,) = (root / ".local-export/locks").iterdir()
    path.unlink()
    os.link(precious, path)
    with storage.lock("x") as lock:
        lock.tell(1024)
    assert precious.read_bytes() == b"precious"


def test_a_lock_is_released_whatever_ends_the_removal_of_its_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(root, PLACES)
    storage.make_root()

    def interrupted(path: PurePosixPath, folder: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(locks, "remove_file", interrupted)
        with pytest.raises(KeyboardInterrupt), storage.try_lock("x", transient=True):
            pass
    with storage.try_lock("x") as lock:
        assert lock


def test_gc_removes_no_lock_that_has_just_been_taken(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its opening a file and locking it, the file goes, and there is another one."""
    storage, other = Storage(root, PLACES), Storage(root, PLACES)
    storage.make_root()
    with storage.lock("x"):
        pass
    (path,) = (root / ".local-export/locks").iterdir()
    take = locks.take
    with contextlib.ExitStack() as stack:

        def taking(descriptor: int) -> bool:
            monkeypatch.setattr(locks, "take", take)
            path.unlink()
            stack.enter_context(other.lock("x"))
            return take(descriptor)

        monkeypatch.setattr(locks, "take", taking)
        storage.remove_unused_locks([])
        assert path.exists()
        with storage.try_lock("x") as lock:
            assert lock is None


@pytest.mark.parametrize("way", ["moved", "removed"])
def test_a_folder_of_locks_that_goes_takes_no_lock_along(
    root: Path, tmp_path: Path, way: str
) -> None:
    """Whoever has it open finds that its path leads elsewhere, also where nobody waited."""
    storage, other = Storage(root, PLACES), Storage(root, PLACES)
    storage.make_root()
    folder = root / ".local-export/locks"
    with storage.lock("x"):
        pass
    if way == "moved":
        folder.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(folder)
    with storage.lock("x"), other.try_lock("x") as lock:
        assert lock is None
        assert len(list(folder.iterdir())) == 1


def test_a_closed_storage_has_no_folder_open(root: Path) -> None:
    storage = Storage(root, PLACES)
    storage.make_root()
    with storage.lock("x"):
        pass
    assert open_below(root) == [".local-export/locks"]
    storage.close()
    assert open_below(root) == []


def open_below(root: Path) -> list[str]:
    """What this process has open below a folder."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError, ValueError):
            found.append(str(link.readlink().relative_to(root.resolve())))
    return sorted(found)
