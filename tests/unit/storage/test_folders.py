# SPDX-License-Identifier: Apache-2.0

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.storage import NotFound, Places, Storage, beneath
from tests.support.descriptors import descriptors
from tests.support.faults import Primitive, hooked

PLACES = Places(PurePosixPath(".state"))
DEEP = PurePosixPath("a/b/c/d")


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = Storage(tmp_path / "root", PLACES)
    storage.make_root()
    for name in ("one", "two"):
        storage.write(DEEP / name, name.encode())
    yield storage
    storage.close()


@pytest.fixture(params=[True, False], ids=["at once", "step by step"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the kernel enters a folder in one call."""
    at_once: bool = request.param
    if at_once and not beneath.is_available():
        pytest.skip("openat2 needs Linux 5.6")
    monkeypatch.setattr(beneath, "is_available", lambda: at_once)
    return at_once


class Opens:
    """Counts the calls that open something."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, primitive: Primitive) -> Any:
        self.count += primitive.opens
        return primitive()


def looks_at_folders(storage: Storage) -> int:
    """Make ten files in a folder; return how often a folder that is open was looked at."""
    found = 0

    def count(primitive: Primitive) -> Any:
        nonlocal found
        found += primitive.function is os.fstat
        return primitive()

    with hooked(count):
        for n in range(10):
            storage.touch(DEEP / f"file{n}")
    return found


def opens(storage: Storage, times: int, *, holding: bool) -> int:
    """Read a file so many times; return how often anything was opened."""
    counter = Opens()
    with hooked(counter):
        if holding:
            with storage.holding():
                for _ in range(times):
                    storage.read(DEEP / "one")
        else:
            for _ in range(times):
                storage.read(DEEP / "one")
    return counter.count


def test_a_reading_opens_root_and_file(storage: Storage, way: bool) -> None:
    assert opens(storage, 5, holding=False) == 5 * (2 if way else 6)


def test_folders_that_are_held_are_opened_once(storage: Storage, way: bool) -> None:
    assert opens(storage, 5, holding=True) == (1 if way else 5) + 5


def test_one_file_is_looked_at_without_its_folder(storage: Storage, way: bool) -> None:
    counter = Opens()
    with storage.holding():
        storage.read(DEEP / "one")
        with hooked(counter):
            found = [storage.lone_file(DEEP / name) for name in ("two", "none", "..")]
            assert storage.lone_file(PurePosixPath("none/none")) is None
    assert found == [storage.file(DEEP / "two"), None, None]
    assert counter.count == (4 if way else 1)


@pytest.mark.parametrize("holding", [True, False])
def test_one_file_is_never_looked_at_through_a_link(
    storage: Storage, way: bool, holding: bool
) -> None:
    (storage.root / "link").symlink_to("a")
    (storage.root / DEEP / "named").symlink_to("one")
    with storage.holding() if holding else contextlib.nullcontext():
        assert storage.lone_file(DEEP / "one") == storage.file(DEEP / "one")
        assert storage.lone_file(DEEP / "named") is None
        with pytest.raises(errors.StorageError, match="link: a symbolic link or a file"):
            storage.lone_file(PurePosixPath("link/b/c/d/one"))


def test_a_small_file_is_read_by_one_call(storage: Storage, way: bool) -> None:
    calls: list[Primitive] = []

    def noting(primitive: Primitive) -> Any:
        calls.append(primitive)
        return primitive()

    with hooked(noting):
        assert storage.read(DEEP / "one") == b"one"
        assert list(storage.chunks(DEEP / "one")) == [b"one"]
    assert [call.function for call in calls if not call.opens] == [os.read, os.read]


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 2**21, 2**21 + 1])
def test_files_of_every_size_are_read_whole(storage: Storage, way: bool, size: int) -> None:
    content = os.urandom(size)
    path = DEEP / "large"
    (storage.root / path).write_bytes(content)
    assert storage.read(path) == content == b"".join(storage.chunks(path))
    assert storage.read(path, limit=size) == content
    assert max(map(len, storage.chunks(path)), default=0) <= 2**20
    if size:
        with pytest.raises(errors.StorageError, match=f"has more than {size - 1} bytes"):
            storage.read(path, limit=size - 1)


@pytest.mark.parametrize("size", [100, 2**20 + 100])
def test_a_file_that_ends_too_early_is_an_error(storage: Storage, way: bool, size: int) -> None:
    (storage.root / DEEP / "large").write_bytes(b"x" * size)

    def ending(primitive: Primitive) -> Any:
        if primitive.function is not os.read:
            return primitive()
        chunk = primitive()[:50]
        os.lseek(primitive.args[0], 0, os.SEEK_END)
        return chunk

    for read in (storage.read, lambda path: list(storage.chunks(path))):
        with hooked(ending), pytest.raises(errors.StorageError, match="ended after 50 of"):
            read(DEEP / "large")


def test_a_missing_folder_is_looked_for_once(storage: Storage, way: bool) -> None:
    counter = Opens()
    with hooked(counter), storage.holding():
        for name in "abc":
            assert storage.file(PurePosixPath("nowhere/at/all") / name) is None
        assert counter.count <= 2 if way else 4
        storage.write(PurePosixPath("nowhere/at/all/a"), b"x")
        assert storage.file(PurePosixPath("nowhere/at/all/a"))


@pytest.mark.parametrize("where", ["a", "a/b", "a/b/c", "a/b/c/d"])
@pytest.mark.parametrize("target", ["elsewhere", "../..", "/", "b"])
def test_no_link_is_followed(
    storage: Storage, way: bool, where: str, target: str, tmp_path: Path
) -> None:
    path = storage.root / where
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere" if target == "elsewhere" else target)
    with pytest.raises(errors.StorageError, match="a symbolic link or a file") as caught:
        storage.read(DEEP / "one")
    assert caught.value.path == path


@pytest.mark.parametrize("where", ["a", "a/b/c"])
def test_a_file_in_a_folders_place_is_told(storage: Storage, way: bool, where: str) -> None:
    path = storage.root / where
    path.rename(path.with_name("away"))
    path.write_bytes(b"")
    with pytest.raises(errors.StorageError, match="a symbolic link or a file") as caught:
        storage.names(DEEP)
    assert caught.value.path == path


def test_a_folder_that_is_removed_meanwhile_is_not_written_to(storage: Storage, way: bool) -> None:
    with storage.holding():
        assert storage.read(DEEP / "one") == b"one"
        storage.write(DEEP / "three", b"three")
        for name in ("one", "two", "three"):
            (storage.root / DEEP / name).unlink()
        (storage.root / DEEP).rmdir()
        storage.write(DEEP / "four", b"four")
    assert (storage.root / DEEP / "four").read_bytes() == b"four"


def remove_deep(storage: Storage) -> None:
    """Remove the folder DEEP as another process would."""
    shutil.rmtree(storage.root / DEEP)


def test_under_a_lock_a_folder_is_looked_at_once(storage: Storage, way: bool) -> None:
    """Nobody else removes it, so nothing is gained by looking at it before each file."""
    storage.write(DEEP / "three", b"three")
    with storage.holding(), storage.lock("name"):
        storage.touch(DEEP / "a")
        assert looks_at_folders(storage) == 0


def test_without_a_lock_it_is_looked_at_for_each_file(storage: Storage, way: bool) -> None:
    storage.write(DEEP / "three", b"three")
    with storage.holding():
        storage.touch(DEEP / "a")
        assert looks_at_folders(storage) == 10


def test_a_new_lock_means_another_look(storage: Storage, way: bool) -> None:
    with storage.holding():
        with storage.lock("one"):
            storage.touch(DEEP / "a")
        remove_deep(storage)
        with storage.lock("two"):
            storage.touch(DEEP / "b")
    assert (storage.root / DEEP / "b").exists()


def test_a_lock_in_a_lock_means_another_look(storage: Storage, way: bool) -> None:
    with storage.holding(), storage.lock("one"):
        storage.touch(DEEP / "a")
        remove_deep(storage)
        with storage.lock("two"):
            storage.touch(DEEP / "b")
    assert (storage.root / DEEP / "b").exists()


def test_a_folder_removed_under_a_lock_is_made_by_the_next_try(storage: Storage, way: bool) -> None:
    """As a lease is taken, whose folder a cleanup may remove."""
    with storage.holding(), storage.lock("one"):
        storage.touch(DEEP / "a")
        remove_deep(storage)
        with pytest.raises(NotFound):
            storage.touch(DEEP / "b")
        storage.touch(DEEP / "b")
    assert (storage.root / DEEP / "b").exists()


def test_a_folder_above_that_is_removed_under_a_lock_is_made_anew(
    storage: Storage, way: bool
) -> None:
    with storage.holding(), storage.lock("one"):
        storage.touch(DEEP / "a")
        remove_deep(storage)
        storage.touch(DEEP / "more" / "b")
    assert (storage.root / DEEP / "more" / "b").exists()


def test_a_folder_that_is_removed_here_is_not_held(storage: Storage, way: bool) -> None:
    with storage.holding():
        storage.names(DEEP)
        storage.remove_tree(DEEP)
        storage.write(DEEP / "new", b"new")
        assert storage.names(DEEP) == {"new": "file"}
    assert (storage.root / DEEP / "new").read_bytes() == b"new"


def test_more_folders_than_are_held(storage: Storage, way: bool) -> None:
    before = descriptors()
    with storage.holding():
        for n in range(200):
            storage.write(PurePosixPath(f"many/{n}/file"), b"x")
        assert len(descriptors() - before) < 100
    assert not descriptors() - before


def test_a_sandbox_that_forbids_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(top: int, path: str) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(beneath, "open_folder_beneath", forbidden)
    assert beneath.is_available.__wrapped__() is False


def test_what_is_not_there_is_not_found(storage: Storage, way: bool) -> None:
    with pytest.raises(NotFound):
        storage.read(PurePosixPath("a/nothing/there"))
