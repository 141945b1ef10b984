# SPDX-License-Identifier: Apache-2.0
"""A tree in pieces: disks mounted inside it, and file systems that refuse links."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance import adopt
from image_uploader_plugins.local_export.maintenance.collect import Collector
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.storage.folders import Folders
from image_uploader_plugins.testing import images
from tests.support import mounts, trees

NAME = RepositoryName("ns/img")
BIG = os.urandom(100_000)
# A repair marks each repository with its name while it looks at it.
MARKS = 100


def one(text: str = "one", tag: str = "1.0", name: str = "ns/img") -> images.Image:
    return images.image(name, tag, [images.layer({"big": BIG, "file": text.encode()}, plain=True)])


def put(root: Path, image: images.Image) -> None:
    """As a run does: what is there is mounted, and the rest is uploaded."""
    with LocalExportDriver(root) as driver:
        driver.mount_layers(image.repository, image.manifest.blobs())
        trees.put(driver, image)


def problems(root: Path) -> list[str]:
    return [str(finding) for finding in Verification(Tree(root)).report().findings]


@contextlib.contextmanager
def counting(*functions: Callable[..., Any]) -> Iterator[dict[str, int]]:
    """How often these are called by any storage, and the bytes that are written."""
    counts = {"bytes": 0, **{function.__name__: 0 for function in functions}}
    original = Folders.call

    def call(self: Folders, path: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(self, path, function, *args, **kwargs)
        if function in functions:
            counts[function.__name__] += 1
        if function is os.write:
            counts["bytes"] += done
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folders, "call", call)
        yield counts


Piece = Callable[[Path, Path], contextlib.AbstractContextManager[Path]]


def own_disk(folder: Path, work: Path) -> contextlib.AbstractContextManager[Path]:
    """ext4, with its lost+found."""
    return mounts.disk(folder, work / "image")


def own_memory(folder: Path, work: Path) -> contextlib.AbstractContextManager[Path]:
    return mounts.tmpfs(folder, "mode=755")


def own_overlay(folder: Path, work: Path) -> contextlib.AbstractContextManager[Path]:
    return mounts.overlay(folder, work / "overlay")


def same_disk(folder: Path, work: Path) -> contextlib.AbstractContextManager[Path]:
    """The file system that the tree is on, once more: stat(2) sees no border."""
    (work / "bound").mkdir()
    return mounts.bound(work / "bound", folder)


PIECES: list[Piece] = [own_disk, own_memory, own_overlay, same_disk]
FOLDERS = ("v2", "v2/ns", "v2/ns/img", "v2/ns/img/blobs", ".local-export", ".local-export/pool")


@pytest.mark.slow
@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_disk_mounted_inside(root: Path, tmp_path: Path, folder: str, piece: Piece) -> None:
    """Nothing of a whole life is busy, or red, and no run writes again what is there."""
    work = tmp_path / "work"
    work.mkdir()
    root.mkdir()
    with piece(root / folder, work):
        # Its root has the mode that whoever made it gave it.
        assert trees.mended(root).findings == ()
        put(root, one())
        assert problems(root) == []
        with counting(os.link) as written:
            put(root, one())
        assert written["bytes"] < len(BIG), written
        for step in (trees.mended, trees.mended):
            with counting() as written:
                assert step(root).findings == ()
            assert written["bytes"] <= MARKS
        put(root, one("two", "2.0"))
        with LocalExportDriver(root) as driver:
            for tag in ("1.0", "2.0"):
                driver.delete(ImageRef(NAME, Tag(tag)))
        assert problems(root) == []
        assert trees.catalog(root) == []
        list(Collector(Tree(root)).collect())
        put(root, one())
        assert problems(root) == []
        assert trees.problems(root) == []


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hard links, as on file systems of FAT, many of FUSE and some of networks."""

    def link(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.slow
def test_where_links_are_refused(root: Path, refused: None) -> None:
    put(root, one())
    put(root, one(name="ns/other"))
    blobs = list((root / "v2").rglob(f"blobs/{one().manifest.layers[0].digest}"))
    assert len({path.stat().st_ino for path in blobs}) == 2
    assert list(adopt.strangers(Tree(root))) == []
    assert problems(root) == []
    for name in ("ns/img", "ns/other"):
        with counting() as written:
            put(root, one(name=name))
        assert written["bytes"] < len(BIG)
    for _ in range(2):
        with counting() as written:
            assert trees.mended(root).findings == ()
            assert list(adopt.adopt(Tree(root))) == []
        assert written["bytes"] <= MARKS


@pytest.mark.slow
def test_a_delete_where_links_are_refused(root: Path, refused: None) -> None:
    """The pool's copy goes with the first image; that others have no second one is no damage."""
    put(root, one())
    put(root, one(name="ns/other"))
    with LocalExportDriver(root) as driver:
        driver.delete(ImageRef(NAME, Tag("1.0")))
    assert problems(root) == []
    # Whoever asks for it next gives the pool one, once.
    put(root, one(name="ns/other"))
    with counting() as written:
        put(root, one(name="ns/other"))
    assert written["bytes"] <= MARKS
    assert problems(root) == []


@pytest.mark.slow
def test_a_copy_of_others_is_read_once_and_kept(root: Path, refused: None) -> None:
    """Without knowing who wrote it, it is hashed; then its time tells."""
    put(root, one())
    (blob,) = (root / "v2/ns/img/blobs").glob(f"{one().manifest.layers[0].digest}*")
    os.utime(blob, (1, 1))
    inode = blob.stat().st_ino
    reads = []
    for _ in range(3):
        with counting(os.read) as counts:
            put(root, one())
        assert counts["bytes"] < len(BIG)
        reads.append(counts["read"])
    assert reads[0] > reads[1] == reads[2]
    assert blob.stat().st_ino == inode
    assert blob.stat().st_mtime_ns != 1_000_000_000


@pytest.mark.slow
@pytest.mark.parametrize("change", ["flipped", "longer"])
def test_a_copy_that_is_none_is_made_anew(root: Path, refused: None, change: str) -> None:
    put(root, one())
    (blob,) = (root / "v2/ns/img/blobs").glob(f"{one().manifest.layers[0].digest}*")
    content = bytearray(blob.read_bytes())
    blob.write_bytes(
        content + b"x" if change == "longer" else bytes([content[0] ^ 1]) + content[1:]
    )
    put(root, one())
    assert blob.read_bytes() == content
    assert problems(root) == []


@pytest.mark.slow
def test_a_copy_becomes_a_link_where_links_are_granted(root: Path, tmp_path: Path) -> None:
    put(root, one())
    (blob,) = (root / "v2/ns/img/blobs").glob(f"{one().manifest.layers[0].digest}*")
    shutil.copy2(blob, tmp_path / "copy")
    (tmp_path / "copy").replace(blob)
    assert problems(root) == [
        f"v2/ns/img/blobs/{blob.name}: is a copy of what the pool has",
    ]
    put(root, one())
    assert blob.stat().st_nlink == 2
    assert problems(root) == []


def test_looking_leaves_nothing_behind(root: Path, tmp_path: Path) -> None:
    """Whether links are refused is tried, and nothing of the trial stays."""
    put(root, one())
    (blob,) = (root / "v2/ns/img/blobs").glob(f"{one().manifest.layers[0].digest}*")
    shutil.copy2(blob, tmp_path / "copy")
    (tmp_path / "copy").replace(blob)
    before = sorted(map(str, root.rglob("*")))
    problems(root)
    assert sorted(map(str, root.rglob("*"))) == before
    assert {stat.S_IMODE(path.stat().st_mode) for path in root.rglob("blobs")} == {0o755}
