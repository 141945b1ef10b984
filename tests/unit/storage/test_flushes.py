# SPDX-License-Identifier: Apache-2.0

import os
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.storage import Places, Storage, flushes, folders
from tests.support.faults import Primitive, hooked

PLACES = Places(PurePosixPath(".state"))
LIMIT = 60  # seconds
FLUSHES = (os.fsync, folders.sync_all, flushes.sync_file_system)


class Recorder:
    """Notes the names of the flushes that a storage makes."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, primitive: Primitive) -> Any:
        if primitive.function in FLUSHES:
            self.made.append(primitive.function.__name__)
        return primitive()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = Storage(tmp_path / "root", PLACES)
    storage.make_root()
    for name in "abcd":
        storage.write(PurePosixPath(name) / "first", b"x")
    storage.sync()
    yield storage
    storage.close()


def change(storage: Storage, names: str) -> list[str]:
    """Publish a file in each of the folders, and sync; return the flushes of sync()."""
    staged = {name: storage.stage([b"y"]).path for name in names}
    for name, path in staged.items():
        storage.publish(path, PurePosixPath(name) / "second")
    recorder = Recorder()
    with hooked(recorder):
        storage.sync()
        storage.sync()
    return recorder.made


def test_few_folders_are_flushed_by_themselves(storage: Storage) -> None:
    assert change(storage, "ab") == ["sync_all"]


@pytest.mark.skipif(not flushes.reports_errors(), reason="the kernel is older than Linux 5.8")
def test_for_more_the_file_system_is_flushed_once(storage: Storage) -> None:
    assert change(storage, "abcd") == ["sync_file_system"]


def test_without_errors_from_the_kernel_each_is_flushed(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flushes, "reports_errors", lambda: False)
    assert change(storage, "abcd") == ["sync_all"]


@pytest.mark.parametrize(
    ("release", "reports"),
    [
        *(("5.7.19", False), ("5.8.0", True), ("5.10.0-28-amd64", True), ("6.1", True)),
        *(("4.18.0-553.el8", False), ("strange", False)),
    ],
)
def test_since_which_kernel_errors_are_told(
    release: str, reports: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (*os.uname()[:2], release, *os.uname()[3:])
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(names))
    assert flushes.reports_errors.__wrapped__() is reports


@pytest.mark.parametrize("names", ["a", "abcd"])
def test_what_could_not_be_flushed_is_flushed_by_the_next_call(
    storage: Storage, names: str
) -> None:
    staged = {name: storage.stage([b"y"]).path for name in names}
    for name, path in staged.items():
        storage.publish(path, PurePosixPath(name) / "second")

    def broken(primitive: Primitive) -> Any:
        if primitive.function in FLUSHES:
            raise OSError(5, "Input/output error")
        return primitive()

    with hooked(broken), pytest.raises(errors.StorageError, match="Input/output error"):
        storage.sync()
    recorder = Recorder()
    with hooked(recorder):
        storage.sync()
    assert len(recorder.made) == 1


@pytest.mark.skipif(not flushes.reports_errors(), reason="the kernel is older than Linux 5.8")
@pytest.mark.parametrize(
    ("devices", "flushed"),
    [
        ({"a": 1, "b": 1, "c": 1}, [{"root"}]),
        ({"a": 1, "b": 2, "c": 2}, [{"b", "c"}, {"root"}]),
        ({"a": 2, "b": 2, "c": 3}, [{"a", "b"}, {"c"}]),
    ],
)
def test_every_file_system_is_flushed_once(
    storage: Storage,
    devices: dict[str, int],
    flushed: list[set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The root is on device 1, and each other one is reached by a folder that is on it."""
    staged = {name: storage.stage([b"y"]).path for name in devices}
    monkeypatch.setattr(Storage, "device", lambda _, folder, __: devices.get(folder, 1))
    for name, path in staged.items():
        storage.publish(path, PurePosixPath(name) / "second")
    reached: list[str] = []

    def noting(primitive: Primitive) -> Any:
        if primitive.function is flushes.sync_file_system:
            reached.append(Path(f"/proc/self/fd/{primitive.args[0]}").readlink().name)
        return primitive()

    with hooked(noting):
        storage.sync()
    assert len(reached) == len(flushed)
    assert all(name in names for name, names in zip(sorted(reached), flushed, strict=True))


def test_a_folder_that_is_gone_needs_no_flush(storage: Storage) -> None:
    for name in "abcd":
        storage.write(PurePosixPath(name) / "second", b"y")
    for name in "abc":
        storage.remove_tree(PurePosixPath(name))
    storage.sync()


def test_the_content_of_many_files_is_flushed_together(storage: Storage) -> None:
    recorder = Recorder()
    with hooked(recorder):
        storage.publish_all([(PurePosixPath("a") / str(n), b"%d" % n) for n in range(20)])
    assert len(recorder.made) == 1


def test_who_comes_during_a_flush_of_its_own_names_waits_for_its_end(storage: Storage) -> None:
    """One thread's sync() takes the names that another has changed, and that one syncs, too."""
    flushing, go_on = threading.Event(), threading.Event()

    def slow(primitive: Primitive) -> Any:
        if primitive.function in FLUSHES and not flushing.is_set():
            flushing.set()
            assert go_on.wait(LIMIT)
        return primitive()

    for name in "abcd":
        storage.publish(storage.stage([b"y"]).path, PurePosixPath(name) / "second")
    with hooked(slow):
        first = threading.Thread(target=storage.sync)
        first.start()
        assert flushing.wait(LIMIT)
        second = threading.Thread(target=storage.sync)
        second.start()
        second.join(0.05)
        assert second.is_alive()
        go_on.set()
        for thread in (first, second):
            thread.join(LIMIT)
            assert not thread.is_alive()


@pytest.mark.parametrize("content", [b"new", "target", None])
def test_what_was_marked_is_durable_before_anything_is_published(
    storage: Storage, content: bytes | str | None
) -> None:
    """Also where nothing is staged, since files are removed."""
    made: list[str] = []

    def note(primitive: Primitive) -> Any:
        if primitive.function in FLUSHES:
            made.append("flush")
        elif primitive.function in (os.rename, os.unlink):
            made.append(primitive.path.name)
        return primitive()

    storage.mark(PurePosixPath("marks") / "mark", b"")
    with hooked(note):
        storage.publish_all([(PurePosixPath("a") / "first", content)])
    assert made == ["flush", made[-1]]
