# SPDX-License-Identifier: Apache-2.0
"""Reading below a root: what is there, and what is of another kind than was asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.storage import NotFound, Reader, Storage

FILE, FOLDER, LINK, FIFO, NONE = map(PurePosixPath, ("a/file", "a/b", "a/link", "a/fifo", "a/none"))


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """A reader of a folder with one entry of each kind."""
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FILE).write_bytes(b"content")
    (tmp_path / LINK).symlink_to("b")
    os.mkfifo(tmp_path / FIFO)
    return Reader(tmp_path)


def test_a_reader_makes_and_locks_nothing(reader: Reader) -> None:
    assert not isinstance(reader, Storage)
    assert not {"write", "publish", "unlink", "lock"} & set(dir(reader))
    kinds = {"file": "file", "b": "folder", "link": "link", "fifo": "other"}
    assert reader.names(FILE.parent) == kinds
    assert sorted(path.name for path in reader.root.rglob("*")) == sorted({"a", *kinds})


def test_what_is_there(reader: Reader) -> None:
    assert [(str(f.path), f.kind) for f in reader.below(PurePosixPath())] == [
        ("a", "folder"),
        ("a/b", "folder"),
        ("a/fifo", "other"),
        ("a/file", "file"),
        ("a/link", "link"),
    ]
    assert reader.read(FILE) == b"content"
    assert reader.holds(FILE, b"content")
    assert not reader.holds(FILE, b"Content")
    names = ("b", "file", "link", "none", "fifo")
    assert reader.files(FILE.parent, names) == {"file": reader.file(FILE)}
    assert reader.link_target(LINK) == "b"
    assert reader.readlink(LINK) == PurePosixPath("b")
    assert reader.is_folder(FOLDER)
    with reader.open(FILE) as file:
        assert file.read() == b"content"


def test_what_is_not_there(reader: Reader) -> None:
    assert reader.status(NONE) is None
    assert reader.file(FOLDER) is None
    assert reader.names(NONE) == {}
    assert reader.files(NONE, ["file"]) == {}
    assert reader.link_target(FILE) is None
    assert not reader.is_folder(NONE)
    assert not reader.is_folder(LINK)


@pytest.mark.parametrize("path", [FOLDER, LINK, FIFO, NONE, FILE / "below", LINK / "below"])
def test_another_kind_is_not_found(reader: Reader, path: PurePosixPath) -> None:
    with pytest.raises(NotFound):
        reader.open(path)


@pytest.mark.parametrize("path", [FOLDER, FILE, FIFO, NONE, LINK / "below"])
def test_another_kind_than_a_link_is_not_found(reader: Reader, path: PurePosixPath) -> None:
    with pytest.raises(NotFound):
        reader.readlink(path)


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda reader: reader.read(FILE, limit=6), id="longer than the limit"),
        pytest.param(lambda reader: reader.read(LINK), id="link"),
        pytest.param(lambda reader: reader.read(FOLDER), id="folder"),
        pytest.param(lambda reader: reader.read(FIFO), id="fifo"),
        pytest.param(lambda reader: reader.status(LINK / "below"), id="through a link"),
        pytest.param(lambda reader: reader.files(LINK, ["below"]), id="in a link"),
    ],
)
def test_what_is_wrong_is_an_error(reader: Reader, read: Callable[[Reader], object]) -> None:
    with pytest.raises(errors.StorageError):
        read(reader)


def test_many_small_files(reader: Reader) -> None:
    """With what tells each from whatever replaces or changes it."""
    (reader.root / "a" / "second").write_bytes(b"more")
    names = ["second", "file"]
    found = list(reader.contents(FILE.parent, names, 100))
    assert [content for _, content in found] == [b"more", b"content"]
    assert [identity for identity, _ in found] == reader.identities(FILE.parent, names)
    before = found[1][0]
    (reader.root / FILE).rename(reader.root / "kept")
    (reader.root / FILE).write_bytes(b"CONTENT")
    assert reader.identities(FILE.parent, names)[1] != before


@pytest.mark.parametrize(("name", "limit"), [("file", 7), ("b", 100), ("link", 100), ("fifo", 100)])
def test_small_files_that_are_large_or_none(reader: Reader, name: str, limit: int) -> None:
    with pytest.raises(errors.StorageError):
        list(reader.contents(FILE.parent, [name], limit))
