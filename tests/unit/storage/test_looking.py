# SPDX-License-Identifier: Apache-2.0
"""A storage for those who only look takes the locks that it can, and makes nothing."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path, PurePosixPath

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.storage import Looking, Places, Storage
from tests.support.descriptors import descriptors

PLACES = Places(PurePosixPath(".state"))
FILE = PurePosixPath("folder/file")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    storage = Storage(tmp_path / "root", PLACES)
    storage.make_root()
    storage.write(FILE, b"content")
    with storage.lock("known"):
        pass
    storage.close()
    return tmp_path / "root"


def entries(root: Path) -> list[tuple[str, int, int]]:
    paths = (root, *root.rglob("*"))
    return sorted((str(p), p.lstat().st_mtime_ns, p.lstat().st_ctime_ns) for p in paths)


def test_a_lock_keeps_writers_out_and_not_those_who_look(root: Path) -> None:
    before = entries(root)
    with Looking(root, PLACES).lock("known") as lock:
        assert lock.is_held
        with Storage(root, PLACES).try_lock("known") as writer:
            assert writer is None
        with Looking(root, PLACES).try_lock("known") as other:
            assert other
            assert other.is_held
    with Storage(root, PLACES).try_lock("known") as writer:
        assert writer
        with Looking(root, PLACES).try_lock("known") as other:
            assert other is None
    assert entries(root) == before


def test_a_lock_that_nobody_has_made_is_not_made(root: Path) -> None:
    before = entries(root)
    with Looking(root, PLACES).lock("unknown") as lock:
        assert not lock.is_held
    with Looking(root, PLACES).try_lock("unknown", transient=True) as tried:
        assert tried
        assert not tried.is_held
    assert entries(root) == before


def test_without_locks_it_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with Looking(root, PLACES).lock("known") as lock:
        assert not lock.is_held


def test_another_error_of_a_lock_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    before = descriptors()
    with pytest.raises(errors.StorageError), Looking(root, PLACES).lock("known"):
        pass
    assert not descriptors() - before


def test_whether_links_are_possible_is_not_tried(root: Path) -> None:
    (root / "copy").write_bytes(b"content")
    os.utime(root / "copy", ns=(0, (root / FILE).stat().st_mtime_ns))
    (root / "other").write_bytes(b"other")
    looking = Looking(root, PLACES)
    file, copy, other = (looking.file(PurePosixPath(n)) for n in (str(FILE), "copy", "other"))
    assert file
    assert copy
    assert other
    before = entries(root)
    assert not looking.can_link(file, copy), "a copy that was made here shows that it is not"
    assert looking.can_link(file, other)
    assert entries(root) == before


def test_it_changes_nothing(root: Path) -> None:
    before = entries(root)
    with pytest.raises(AssertionError, match="a dry run would"):
        Looking(root, PLACES).touch(FILE)
    assert entries(root) == before
