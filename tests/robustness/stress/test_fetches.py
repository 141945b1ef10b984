# SPDX-License-Identifier: Apache-2.0
"""Several uploads of one content: they wait for each other as long as that helps.

No time passes: the clock goes on when the test says so, and bytes come when
it says so.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import errors, media_types, pace
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Content
from image_uploader_plugins.local_export import fetches, layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance import adopt
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.testing import images
from tests.support import trees

LIMIT = 30  # seconds after which whoever still waits is taken to wait for ever
PIECE = bytes(1024 * 1024)
LAYER = images.Blob(b"".join([PIECE] * 4), media_types.DOCKER_LAYER_GZIP)


class Time:
    """A clock that the test turns, and threads that are told when it has."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._turned = threading.Condition()

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        with self._turned:
            self.pauses.put(threading.current_thread().name)
            assert self._turned.wait(LIMIT)

    def turn(self, seconds: float) -> None:
        with self._turned:
            self.now += seconds
            self._turned.notify_all()

    def waits(self, name: str) -> None:
        """Until this thread has looked, and pauses."""
        while self.pauses.get(timeout=LIMIT) != name:
            pass


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(fetches, "clock", time.clock)
    monkeypatch.setattr(fetches, "pause", time.pause)
    return time


class Upload(threading.Thread):
    """An upload of LAYER into a repository of its own; its bytes come when ``give`` is called."""

    def __init__(self, root: Path, name: str, *, resumes: bool = False) -> None:
        super().__init__(name=name, daemon=True)
        self._root = root
        self._resumes = resumes
        self.starts: list[int] = []
        self._given: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        self.asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.fetches = 0
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with LocalExportDriver(self._root) as driver:
                name = RepositoryName(self.name)
                chunks = _Given(self) if self._resumes else self.chunks(0)
                driver.upload_layer(name, chunks, expected=LAYER.digest)
        except BaseException as e:
            self.error = e

    def chunks(self, start: int) -> Iterator[bytes]:
        self.fetches += 1
        self.starts.append(start)
        for number in range(start // len(PIECE), 4):
            self.asked.put(number)
            piece = self._given.get(timeout=LIMIT)
            if isinstance(piece, Exception):
                raise piece
            yield piece
        self.asked.put(4)

    def begun(self, number: int = 0) -> None:
        """Until it asks for this piece: all before it have been written and told of."""
        while self.asked.get(timeout=LIMIT) != number:
            pass

    def give(self, count: int = 4) -> None:
        for _ in range(count):
            self._given.put(PIECE)

    def fail(self, error: Exception) -> None:
        self._given.put(error)

    def end(self) -> None:
        self.join(LIMIT)
        assert not self.is_alive()
        assert self.error is None

    def holds(self) -> bool:
        path = self._root / f"v2/{self.name}/blobs/{LAYER.digest}"
        return path.exists() and path.read_bytes() == LAYER.content


class _Given(Content):
    def __init__(self, upload: Upload) -> None:
        self._upload = upload

    def start_at(self, offset: int) -> Iterator[bytes]:
        return self._upload.chunks(offset)


def second_waits(time: Time) -> None:
    time.waits("second")


def test_who_waits_for_one_that_gets_on_fetches_nothing(root: Path, time: Time) -> None:
    first = Upload(root, "first")
    first.begun()
    second = Upload(root, "second")
    for number in range(1, 4):
        second_waits(time)
        first.give(1)
        first.begun(number)
        time.turn(pace.PATIENCE - 0.1)  # a piece in nearly five seconds is enough
    second_waits(time)
    first.give(1)
    first.end()
    time.turn(1)
    second.end()
    assert (first.fetches, second.fetches) == (1, 0)
    assert first.holds()
    assert second.holds()


def test_who_waits_for_one_that_is_stuck_makes_a_fetch_of_his_own(root: Path, time: Time) -> None:
    slow = Upload(root, "slow")
    slow.begun()
    second = Upload(root, "second")
    second_waits(time)
    time.turn(pace.PATIENCE - 0.1)
    second_waits(time)
    assert second.fetches == 0
    time.turn(0.2)
    second.begun()
    # Another one waits for the second, which gets on, and not for the first.
    third = Upload(root, "third")
    time.waits("third")
    time.turn(pace.PATIENCE)
    time.waits("third")
    second.give()
    second.end()
    assert second.holds()
    time.turn(0.1)
    third.end()
    assert third.holds()
    assert third.fetches == 0
    # What the slow one brings in the end is there already: a success as well.
    assert slow.is_alive()
    slow.give()
    slow.end()
    assert slow.holds()
    inodes = {(root / f"v2/{u.name}/blobs/{LAYER.digest}").stat().st_ino for u in (slow, second)}
    assert len(inodes) == 1
    assert trees.problems(root) == []


def test_a_drip_is_no_progress(root: Path, time: Time) -> None:
    """Bytes do come, and too few of them."""
    tree = Tree(root)
    tree.storage.make_root()
    with tree.fetch_lock(LAYER.digest) as fetch:
        dripping = fetch.counted(bytes(1000) for _ in range(1000))
        next(dripping)
        second = Upload(root, "second")
        for _ in range(4):
            second_waits(time)
            next(dripping)
            time.turn(1.3)
        second.begun()
        second.give()
        second.end()


def test_who_fails_lets_the_next_one_fetch(root: Path, time: Time) -> None:
    first = Upload(root, "first")
    first.begun()
    second = Upload(root, "second")
    second_waits(time)
    first.fail(ValueError("theirs"))
    first.join(LIMIT)
    assert isinstance(first.error, ValueError)
    time.turn(0.1)
    second.begun()
    second.give()
    second.end()
    assert second.holds()


def test_who_waits_for_one_that_fails_goes_on_where_it_stopped(root: Path, time: Time) -> None:
    first = Upload(root, "first", resumes=True)
    first.begun()
    second = Upload(root, "second", resumes=True)
    second_waits(time)
    first.give(2)
    first.begun(2)
    first.fail(ValueError("theirs"))
    first.join(LIMIT)
    assert kept(root) == 1
    time.turn(0.1)
    second.begun(2)
    second.give(2)
    second.end()
    assert (second.starts, second.holds(), kept(root)) == ([2 * len(PIECE)], True, 0)
    assert trees.problems(root) == []


def test_who_does_not_wait_any_longer_leaves_what_the_slow_one_has(root: Path, time: Time) -> None:
    """What came since is not kept when the slow one fails at last."""
    slow = Upload(root, "slow", resumes=True)
    slow.begun()
    slow.give(2)
    slow.begun(2)
    second = Upload(root, "second", resumes=True)
    second_waits(time)
    time.turn(pace.PATIENCE)
    second.begun()
    assert kept(root) == 1
    second.give()
    second.end()
    assert (second.starts, second.holds()) == ([0], True)
    slow.fail(ValueError("theirs"))
    slow.join(LIMIT)
    assert kept(root) == 0
    assert trees.problems(root) == []


def test_two_that_bring_the_same_are_one_success(root: Path, time: Time) -> None:
    slow = Upload(root, "slow", resumes=True)
    slow.begun()
    second = Upload(root, "second", resumes=True)
    second_waits(time)
    time.turn(pace.PATIENCE)
    second.begun()
    for upload in (second, slow):
        upload.give()
        upload.end()
        assert upload.holds()
    assert kept(root) == 0
    assert trees.problems(root) == []


def kept(root: Path) -> int:
    return len(list((root / layout.PARTIAL).iterdir()))


def test_a_slow_source_that_lies_harms_nobody(root: Path, time: Time) -> None:
    slow = Upload(root, "slow")
    slow.begun()
    second = Upload(root, "second")
    second_waits(time)
    time.turn(pace.PATIENCE)
    second.begun()
    second.give()
    second.end()
    slow.give(3)
    slow._given.put(PIECE[:-1] + b"x")
    slow.join(LIMIT)
    assert isinstance(slow.error, errors.DigestMismatch)
    assert second.holds()
    assert trees.problems(root) == []


@pytest.mark.slow
def test_nobody_waits_for_another_content(root: Path, time: Time) -> None:
    """Of however many there are: the whole digest is the lock."""
    slow = Upload(root, "slow")
    slow.begun()
    with LocalExportDriver(root) as driver:
        for number in range(200):
            content = b"%d" % number
            driver.upload_layer(RepositoryName("other"), [content], expected=Digest.of(content))
    assert time.pauses.empty()
    slow.give()
    slow.end()


def test_nothing_is_left_of_the_locks_of_fetches(root: Path, time: Time) -> None:
    slow = Upload(root, "slow")
    slow.begun()
    second = Upload(root, "second")
    second_waits(time)
    time.turn(pace.PATIENCE)
    second.begun()
    for upload in (second, slow):
        upload.give()
        upload.end()
    # Of the pool, the catalog and two repositories.
    assert len(list((root / ".local-export/locks").iterdir())) == 4


def test_adopting_does_not_wait_for_a_slow_source(root: Path, time: Time) -> None:
    """Nor does verify --repair, which adopts."""
    old = root / "v2/old/blobs" / str(LAYER.digest)
    LocalExportDriver(root).close()
    slow = Upload(root, "slow")
    slow.begun()
    old.parent.mkdir(parents=True)
    old.write_bytes(LAYER.content)
    thread = threading.Thread(target=lambda: list(adopt.adopt(Tree(root))), daemon=True)
    thread.start()
    time.pauses.get(timeout=LIMIT)
    time.turn(pace.PATIENCE)
    thread.join(LIMIT)
    assert not thread.is_alive()
    slow.give()
    slow.end()
    assert slow.holds()
