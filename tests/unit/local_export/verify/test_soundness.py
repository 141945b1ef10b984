# SPDX-License-Identifier: Apache-2.0
"""The quick check of a repository passes nothing that an inspection would find."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Kind, Verification, verification
from image_uploader_plugins.local_export.verify.access import Access
from image_uploader_plugins.local_export.verify.contents import Contents
from image_uploader_plugins.local_export.verify.inspection import Inspection
from image_uploader_plugins.local_export.verify.soundness import Soundness
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.storage import File, Snapshot
from image_uploader_plugins.testing import images
from tests.support import trees
from tests.support.faults import Primitive, hooked

NAME = "ns/all"
MANIFESTS = 7

Damage = Callable[[Path, Path], contextlib.AbstractContextManager[None]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree whose one repository has all that a repository may have."""
    root = tmp_path_factory.mktemp("sound") / "tree"

    def one(tag: str | None, text: str, architecture: str = "amd64") -> images.Image:
        layer = images.layer({"file": text.encode()})
        return images.image(NAME, tag, [layer], architecture=architecture)

    with LocalExportDriver(root) as driver:
        children = [one(None, "amd64"), one(None, "arm64", "arm64")]
        trees.put(driver, images.index(NAME, "multi", children))
        for tag in ("1.0", "2.0"):
            trees.put(driver, one(tag, tag))
        trees.put(driver, one("again", "1.0"))
        trees.put(driver, one(None, "pinned"))
        subject = one(None, "1.0").descriptor()
        for kind in ("application/vnd.example.sbom+json", "text/spdx"):
            sbom = images.artifact(NAME, None, kind, kind.encode(), subject=subject)
            trees.put(driver, sbom)
        driver.delete(ImageRef(RepositoryName(NAME), Tag("2.0")))
    return root


def sound(root: Path) -> int | None:
    tree = Tree(root, look=True)
    place = layout.repository(RepositoryName(NAME))
    snapshot = Snapshot(root, layout.PLACES, [place.blobs])

    def is_pooled(digest: Digest, file: File) -> bool:
        pooled = tree.pool.file(digest)
        return pooled is not None and pooled.inode == file.inode

    with snapshot.holding():
        contents, access = Contents(tree.storage, Meter()), Access(tree.storage)
        repository = tree.repository(RepositoryName(NAME), snapshot)
        with contextlib.suppress(errors.StorageError):
            contents.read(repository.blob_files())
        snapshot.forget([place.blobs])
        return Soundness(repository, snapshot, contents, access, is_pooled).manifests()


# -- what may become of an entry; ``aside`` is a path outside of the tree


@contextlib.contextmanager
def removed(path: Path, aside: Path) -> Iterator[None]:
    path.rename(aside)
    try:
        yield
    finally:
        aside.rename(path)


@contextlib.contextmanager
def another_file(path: Path, aside: Path) -> Iterator[None]:
    """Of the same size, where that is known."""
    with removed(path, aside):
        path.write_bytes(bytes(aside.lstat().st_size))
        yield
        path.unlink()


@contextlib.contextmanager
def a_folder(path: Path, aside: Path) -> Iterator[None]:
    with removed(path, aside):
        path.mkdir()
        yield
        path.rmdir()


@contextlib.contextmanager
def a_link_to_it(path: Path, aside: Path) -> Iterator[None]:
    with removed(path, aside):
        path.symlink_to(aside)
        yield
        path.unlink()


@contextlib.contextmanager
def flipped(path: Path, aside: Path) -> Iterator[None]:
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(content[:-1] + bytes([content[-1] ^ 1]))
    yield
    with path.open("r+b") as file:
        file.write(content)


@contextlib.contextmanager
def for_all_to_write(path: Path, aside: Path) -> Iterator[None]:
    mode = path.stat().st_mode
    path.chmod(0o777)
    yield
    path.chmod(mode)


@contextlib.contextmanager
def beside(path: Path, aside: Path) -> Iterator[None]:
    """One more file of a name that a tree may have there."""
    other = path.with_name(path.name.replace("1", "7").replace("a", "b") + "x")
    other.write_bytes(b"x")
    yield
    other.unlink()


@contextlib.contextmanager
def inside(path: Path, aside: Path) -> Iterator[None]:
    (path / "strange").write_bytes(b"x")
    yield
    (path / "strange").unlink()


OF_KIND: dict[str, list[Damage]] = {
    "file": [another_file, a_folder, a_link_to_it, flipped, for_all_to_write, beside],
    "folder": [another_file, a_link_to_it, for_all_to_write, inside],
    "link": [another_file, a_folder, a_link_to_it, beside],
}


def entries(root: Path) -> list[File]:
    tree = Tree(root, look=True)
    return list(tree.repository(RepositoryName(NAME)).parts())


def test_a_sound_repository(root: Path) -> None:
    assert sound(root) == MANIFESTS
    kinds = {file.kind for file in entries(root)}
    assert kinds == set(OF_KIND)


def test_no_damage_passes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aside = root.with_name("aside")
    passed, doubted = [], 0
    for number, file in enumerate(entries(root)):
        # Not all of each, to save time: there are several of each kind.
        more = OF_KIND[file.kind]
        for damage in (removed, more[number % len(more)], more[(number + 2) % len(more)]):
            with damage(root / file.path, aside), monkeypatch.context() as patch:
                if sound(root) is None:
                    doubted += 1
                else:
                    passed.append((file.place, damage))
                    patch.setattr(Soundness, "manifests", lambda _: None)
                    assert Verification(Tree(root, look=True)).report().findings == ()
    assert doubted > 200
    # The pins of what an index lists, or what refers to another.
    assert {damage for _, damage in passed} == {removed}
    assert len(passed) == 4
    assert all(layout.PIN in place for place, _ in passed)


@pytest.mark.parametrize(
    ("name", "passes"), [(f"manifests/sha256:{64 * 'a'}", False), (".pages/16", True)]
)
def test_an_empty_folder(root: Path, name: str, passes: bool) -> None:
    """That of a manifest is all that is left of it; any other means nothing."""
    folder = root / "v2" / NAME / name
    folder.mkdir()
    assert (sound(root) is not None) is passes
    folder.rmdir()


def test_a_blob_that_no_manifest_needs(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, images.image("ns/other", "1", [images.layer({"other": b"other"})]))
        (other,) = (root / "v2/ns/other/blobs").glob("*.gz")
        blob = root / "v2" / NAME / "blobs" / other.name
        blob.hardlink_to(other)
        assert sound(root) is None
        blob.unlink()
        driver.delete(ImageRef(RepositoryName("ns/other"), Tag("1")))
    assert sound(root) == MANIFESTS


def test_a_manifest_that_nothing_names(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    with LocalExportDriver(root) as driver:
        for tag in ("1.0", "2.0"):
            trees.put(driver, images.image(NAME, tag, [images.layer({"file": tag.encode()})]))
    assert sound(root) == 2
    tree, name = Tree(root), RepositoryName(NAME)
    with tree.repository_lock(name):
        tree.repository(name).remove_references([Tag("2.0")], [])
    tree.close()
    assert sound(root) is None


def test_a_child_that_is_missing(tmp_path: Path) -> None:
    root, name = tmp_path / "tree", RepositoryName(NAME)
    layers = [images.layer({"file": b"of both"})]
    children = [images.image(NAME, None, layers, architecture=a) for a in ("amd64", "arm64")]
    index = images.index(NAME, "1.0", children)
    with LocalExportDriver(root) as driver:
        trees.put(driver, children[0])
        content, media_type = index.manifest.content, index.manifest.media_type
        driver.put_manifest(name, content, media_type, tag=index.tag)
        driver.leave_out(name, index.digest, [children[1].digest])
    assert sound(root) is None  # worth a note
    (root / layout.repository(name).left_out(index.digest)).unlink()
    assert sound(root) is None


def test_each_blob_is_in_the_pool(root: Path) -> None:
    for file in list((root / layout.POOL).rglob("*")):
        if file.is_file():
            with removed(file, root.with_name("aside")):
                assert sound(root) is None


def test_a_sound_repository_is_not_inspected(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspected: list[object] = []
    monkeypatch.setattr(Inspection, "__init__", lambda self, *_: inspected.append(self))
    report = Verification(Tree(root, look=True)).report()
    assert (report.findings, report.repositories, report.manifests) == ((), 1, MANIFESTS)
    assert inspected == []


def test_a_catalog_that_lacks_a_sound_repository(root: Path) -> None:
    with another_catalog(root, b'{"repositories":[]}'):
        report = Verification(Tree(root, look=True)).report()
        assert (report.repositories, report.manifests) == (1, MANIFESTS)
        assert f"lacks {NAME}" in {f.problem for f in report.findings}
        alone = Verification(Tree(root, look=True), [RepositoryName(NAME)]).report()
        assert [f.problem for f in alone.findings] == [f"lacks {NAME}"]


def test_a_catalog_that_cannot_be_read(root: Path) -> None:
    def fail(primitive: Primitive) -> Any:
        if primitive.path == layout.CATALOG and primitive.function is os.read:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return primitive()

    with hooked(fail):
        alone = Verification(Tree(root, look=True), [RepositoryName(NAME)]).report()
    assert [(f.path, f.kind) for f in alone.findings] == [(layout.CATALOG, Kind.UNREAD)]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_several_processes_find_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    root = tmp_path / "tree"
    with LocalExportDriver(root) as driver:
        for number in range(5):
            layer = images.layer({"file": str(number).encode()})
            trees.put(driver, images.image(f"ns/image-{number}", "1.0", [layer]))
    for number in (1, 4):
        (root / f"v2/ns/image-{number}/tags/list").unlink()
    monkeypatch.setattr(verification, "WORTH", 1)
    inspected: list[str] = []

    class Counted(Inspection):
        def __init__(self, tree: Tree, name: RepositoryName, *rest: Any) -> None:
            inspected.append(name.value)
            super().__init__(tree, name, *rest)

    monkeypatch.setattr(verification, "Inspection", Counted)
    report = Verification(Tree(root, look=True), processes=count).report()
    lists = [f"v2/ns/image-{number}/tags/list" for number in (1, 4)]
    assert [str(f.path) for f in report.findings] == lists
    assert (report.repositories, report.manifests, report.blobs) == (5, 5, 10)
    assert inspected == ["ns/image-1", "ns/image-4"]


@contextlib.contextmanager
def another_catalog(root: Path, content: bytes) -> Iterator[None]:
    path, aside = root / layout.CATALOG, root.with_name("aside")
    with removed(path, aside):
        path.write_bytes(content)
        yield
        path.unlink()


@pytest.mark.parametrize("folder", ["v2/ns", "v2/ns/all"])
def test_the_folders_around_a_sound_repository(root: Path, folder: str) -> None:
    with for_all_to_write(root / folder, root):
        report = Verification(Tree(root, look=True)).report()
        assert [str(f.path) for f in report.findings] == [folder]
