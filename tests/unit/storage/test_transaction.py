# SPDX-License-Identifier: Apache-2.0

import errno
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.storage import Places, Storage, flushes, folders, transaction
from tests.support.faults import Primitive, hooked

PLACES = Places(PurePosixPath(".state"))
FLUSHES = (os.fsync, folders.sync_all, flushes.sync_file_system)
A, B, LINK, HARD = (PurePosixPath("folder") / name for name in ("a", "b", "link", "hard"))


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    storage = Storage(tmp_path / "root", PLACES)
    storage.make_root()
    yield storage
    storage.close()


def staged(storage: Storage) -> list[PurePosixPath]:
    return [f.path for f in storage.below(PLACES.staging) if f.kind == "file" and f.size]


def test_nothing_is_visible_before_the_end(storage: Storage) -> None:
    storage.write(A, b"old")
    with transaction(storage) as changes:
        assert changes.write(A, b"new")
        changes.write(B, b"b")
        changes.symlink(LINK, "b")
        changes.link(B, HARD)
        changes.unlink(A)
        assert storage.read(A) == b"old"
        assert storage.names(A.parent) == {"a": "file"}
    assert storage.names(A.parent) == {"b": "file", "link": "link", "hard": "file"}
    found = [storage.file(B), storage.file(HARD)]
    assert found[0] and found[1] and found[0].inode == found[1].inode


def test_a_block_that_fails_changes_nothing(storage: Storage) -> None:
    storage.write(A, b"old")
    with pytest.raises(KeyError), transaction(storage) as changes:
        changes.write(A, b"new")
        raise KeyError
    assert storage.read(A) == b"old"


def test_what_is_there_already_is_no_change(storage: Storage) -> None:
    storage.write(A, b"a")
    storage.symlink(LINK, "a")
    with transaction(storage) as changes:
        assert not changes.write(A, b"a")
        assert not changes.symlink(LINK, "a")
        assert not changes.unlink(B)


def test_the_order_is_that_of_the_calls(storage: Storage) -> None:
    seen: list[str] = []

    def watch(primitive: Primitive) -> Any:
        if primitive.function in FLUSHES:
            seen.append("flush")
        if primitive.function is os.rename:
            seen.append(primitive.path.name)
        return primitive()

    storage.write(PurePosixPath("folder/first"), b"")
    storage.sync()
    with hooked(watch), transaction(storage) as changes:
        changes.write(A, b"a")
        changes.sync()
        changes.sync()
        changes.publish_all([(B, b"b"), (LINK, "b")])
        changes.afterwards(lambda: seen.append("afterwards"))
    assert seen == ["flush", "a", "flush", "b", "link", "afterwards"]


@pytest.mark.parametrize("transacted", [False, True])
def test_what_is_removed_among_others_goes_in_its_turn(storage: Storage, transacted: bool) -> None:
    seen: list[str] = []

    def watch(primitive: Primitive) -> Any:
        if primitive.function in FLUSHES:
            seen.append("flush")
        if primitive.function in (os.rename, os.unlink):
            seen.append(f"{primitive.function.__name__} {primitive.path.name}")
        return primitive()

    storage.write(A, b"a")
    storage.sync()
    wanted = [(B, b"b"), (A, None), (LINK, "b"), (HARD, None)]
    with hooked(watch):
        if transacted:
            with transaction(storage) as changes:
                changes.publish_all(wanted)
        else:
            storage.publish_all(wanted)
        storage.sync()
    assert seen == ["flush", "rename b", "unlink a", "rename link", "unlink hard", "flush"]
    assert storage.names(A.parent) == {"b": "file", "link": "link"}
    assert staged(storage) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_while_content_is_staged_publishes_nothing(
    storage: Storage, number: int
) -> None:
    storage.write(A, b"old")
    writes = 0

    def failing(primitive: Primitive) -> Any:
        nonlocal writes
        writes += primitive.function is os.write
        if primitive.function is os.write and writes == 3:
            raise OSError(number, os.strerror(number))
        return primitive()

    with (
        hooked(failing),
        pytest.raises(errors.StorageError, match=os.strerror(number)),
        transaction(storage) as changes,
    ):
        for name in ("a", "b", "c", "d"):
            changes.write(A.with_name(name), b"new")
    assert storage.names(A.parent) == {"a": "file"}
    assert storage.read(A) == b"old"
    assert staged(storage) == []


def test_what_is_in_the_way_goes_at_once(storage: Storage) -> None:
    storage.write(LINK / "file", b"x")
    found = storage.status(LINK)
    assert found
    with transaction(storage) as changes:
        changes.remove(found)
        changes.symlink(LINK, "a")
    assert storage.link_target(LINK) == "a"


def test_folders_go_when_what_is_in_them_has_gone(storage: Storage) -> None:
    deep = PurePosixPath("x/y/z/file")
    storage.write(deep, b"x")
    with transaction(storage) as changes:
        changes.unlink(deep)
        changes.remove_upward(deep.parent, PurePosixPath("x"))
    assert storage.names(PurePosixPath("x")) == {}
    assert storage.is_folder(PurePosixPath("x"))
