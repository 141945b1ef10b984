# SPDX-License-Identifier: Apache-2.0
"""A snapshot looks at everything once, and is a dry run."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.storage import Change, DryRun, NotFound, Places, Snapshot
from image_uploader_plugins.storage.dry_run import DIFFERENT, MISSING
from image_uploader_plugins.storage.entries import statuses
from tests.support.faults import Primitive, hooked

PLACES = Places(PurePosixPath(".state"))
FOLDER = PurePosixPath("folder")
FILE = FOLDER / "file"
OTHER = FOLDER / "other name"
LINK = FOLDER / "link"
ABSENT = FOLDER / "absent"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FILE).write_bytes(b"content")
    (tmp_path / OTHER).hardlink_to(tmp_path / FILE)
    (tmp_path / LINK).symlink_to("file")
    return tmp_path


@pytest.fixture
def snapshot(root: Path) -> Snapshot:
    return Snapshot(root, PLACES)


def everything(storage: DryRun) -> list[object]:
    return [
        storage.names(FOLDER),
        storage.names(ABSENT),
        *map(storage.status, (FILE, OTHER, LINK, ABSENT, FOLDER, ABSENT / "below")),
        *map(storage.lone_file, (FILE, LINK, ABSENT, FOLDER, ABSENT / "below")),
        storage.files(FOLDER, ["file", "other name", "link", "absent"]),
        storage.files(ABSENT, ["below"]),
        *map(storage.link_target, (FILE, LINK, ABSENT)),
        storage.read(FILE),
        storage.read(OTHER),
        storage.holds(FILE, b"content"),
        storage.holds(FILE, b"changed"),
        storage.holds(FILE, b"longer than it is"),
        storage.holds(LINK, b"content"),
        storage.holds(ABSENT, b""),
        list(storage.below(PurePosixPath())),
    ]


def test_it_sees_what_any_storage_sees(root: Path, snapshot: Snapshot) -> None:
    assert everything(snapshot) == everything(DryRun(root, PLACES))
    assert everything(snapshot) == everything(DryRun(root, PLACES))


def test_it_looks_at_each_thing_once(snapshot: Snapshot) -> None:
    looks: list[str] = []

    def hook(primitive: Primitive) -> Any:
        if primitive.function in (os.stat, os.read, os.readlink):
            looks.append(str(primitive))
        return primitive()

    with hooked(hook):
        for _ in range(3):
            for path in (FILE, OTHER, LINK, ABSENT):
                snapshot.status(path)
                snapshot.link_target(path)
            for path in (FILE, OTHER):
                assert snapshot.read(path) == b"content"
                assert snapshot.holds(path, b"content")
    assert sorted(looks) == [
        f"read {FILE}",
        f"readlink {LINK}",
        *(f"stat {path}" for path in (FILE, LINK, OTHER)),
    ]


def test_what_is_changed_meanwhile_is_not_seen(root: Path, snapshot: Snapshot) -> None:
    with snapshot.holding():
        before = everything(snapshot)
        (root / FILE).write_bytes(b"changed")
        (root / LINK).unlink()
        assert everything(snapshot)[:-1] == before[:-1]


def test_an_error_is_not_remembered(snapshot: Snapshot) -> None:
    def hook(primitive: Primitive) -> Any:
        if primitive.path == FILE:
            raise OSError(errno.EIO, "it failed")
        return primitive()

    with hooked(hook):
        for look in (snapshot.status, snapshot.read):
            with pytest.raises(errors.StorageError) as e:
                look(FILE)
            assert e.value.errno == errno.EIO
        assert snapshot.status(OTHER)
    assert snapshot.status(FILE)
    assert snapshot.read(FILE) == b"content"


def test_a_file_that_is_cut_after_it_was_looked_at_is_read_as_it_is(root: Path) -> None:
    snapshot = Snapshot(root, PLACES, [FOLDER])
    snapshot.status(FILE)
    (root / FILE).write_bytes(b"longer than before")
    assert snapshot.read(FILE) == b"longer than before"


def test_links_and_small_files_are_read_with_their_folder(root: Path, snapshot: Snapshot) -> None:
    snapshot.names(FOLDER)
    (root / FILE).unlink()
    (root / LINK).unlink()
    assert snapshot.read(FILE) == b"content"
    assert snapshot.link_target(LINK) == "file"
    assert {snapshot.seen(file) for file in snapshot.entries(FOLDER)} >= {b"content", "file"}


@pytest.mark.parametrize("now", [b"longer than before", b"less"])
def test_what_is_written_while_it_is_read_early_is_read_again(
    root: Path, snapshot: Snapshot, now: bytes
) -> None:
    def hook(primitive: Primitive) -> Any:
        if primitive.function is os.read:
            (root / FILE).write_bytes(now)
        return primitive()

    with hooked(hook):
        seen = {file.path: snapshot.seen(file) for file in snapshot.entries(FOLDER)}
    assert (seen[FILE], seen[OTHER]) == (None, None)
    assert snapshot.read(FILE) == now


def test_files_of_an_unread_folder_are_not_read(root: Path) -> None:
    snapshot = Snapshot(root, PLACES, [FOLDER])
    assert {snapshot.seen(file) for file in snapshot.entries(FOLDER)} == {None}


def test_no_folder_is_looked_for_in_one_that_lacks_it(snapshot: Snapshot) -> None:
    snapshot.names(FOLDER)
    looks: list[str] = []

    def hook(primitive: Primitive) -> Any:
        looks.append(str(primitive))
        return primitive()

    with hooked(hook):
        assert snapshot.names(FOLDER / "other") == {}
    assert looks == []


def test_what_is_absent_or_too_long_is_an_error(snapshot: Snapshot) -> None:
    with pytest.raises(NotFound):
        snapshot.read(ABSENT)
    with pytest.raises(errors.StorageError, match="more than 3 bytes"):
        snapshot.read(FILE, 3)
    with pytest.raises(errors.StorageError, match="symbolic link"):
        snapshot.read(LINK)


def test_it_notes_changes(snapshot: Snapshot) -> None:
    snapshot.write(FILE, b"content")
    snapshot.symlink(LINK, "file")
    assert not snapshot.changes
    snapshot.write(FILE, b"changed")
    snapshot.write(ABSENT, b"")
    snapshot.symlink(LINK, "elsewhere")
    assert snapshot.changes == {
        Change(FILE, DIFFERENT),
        Change(LINK, DIFFERENT),
        Change(ABSENT, MISSING),
    }


class Gone:
    """The entry of a folder that goes before it is looked at."""

    name = "gone"

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        raise FileNotFoundError


def test_what_goes_meanwhile_has_a_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "scandir", lambda _folder: contextlib.nullcontext([Gone()]))
    assert statuses(0) == {"gone": None}
