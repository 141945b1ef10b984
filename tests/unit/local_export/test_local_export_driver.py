# SPDX-License-Identifier: Apache-2.0
"""Whether an image is held whole: only where putting it again would change nothing."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import trees

ONE = Tag("1")
APP: Image = images.image("ns/app", "1", [images.layer({"a": b"a"})], oci=True)
OTHER: Image = images.image("ns/other", "1", [images.layer({"b": b"b"})], oci=True)
LIST: Image = images.index("ns/app", "list", [APP], oci=True)
ABOUT: Image = images.artifact(
    "ns/app", "about", "application/vnd.example", b"about", subject=APP.descriptor()
)
BLOB = next(APP.manifest.blobs()).digest

V2 = Path("v2/ns/app")


@pytest.fixture
def filled(driver: LocalExportDriver) -> LocalExportDriver:
    for image in (LIST, ABOUT, APP, OTHER):
        trees.put(driver, image)
    return driver


def is_held(driver: LocalExportDriver, image: Image) -> bool:
    found = driver.held_manifest(image.repository, image.digest, tag=image.tag)
    assert found in (None, image.manifest)
    return found is not None


def state(root: Path) -> dict[Path, tuple[int, int, int]]:
    """Each file with its inode, its size and the time of its last change."""
    paths = [path for path in root.rglob("*") if path.is_symlink() or not path.is_dir()]
    found = {path: path.lstat() for path in paths}
    return {path: (s.st_ino, s.st_size, s.st_ctime_ns) for path, s in found.items()}


def test_what_was_put_is_held_and_nothing_changes(filled: LocalExportDriver, root: Path) -> None:
    before = state(root)
    for image in (LIST, ABOUT, APP, OTHER):
        assert is_held(filled, image)
    assert filled.held_manifest(APP.repository, APP.digest) == APP.manifest
    assert state(root) == before


def removed(*parts: str) -> Callable[[Path], None]:
    return lambda root: root.joinpath(V2, *parts).unlink()


def rewritten(*parts: str) -> Callable[[Path], None]:
    def rewrite(root: Path) -> None:
        path = root.joinpath(V2, *parts)
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[:-1] + b" \n")

    return rewrite


def unfinished(root: Path) -> None:
    mark = root / layout.RepositoryLayout(APP.repository).unfinished
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def damaged_beside_the_pool(root: Path) -> None:
    """Of the right size, but no longer the file that the pool has."""
    (path,) = (root / V2 / "blobs").glob(f"{BLOB}*")
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(bytes(size))


def not_in_the_pool(root: Path) -> None:
    (root / layout.pool_blob(BLOB)).unlink()


def not_in_the_catalog(root: Path) -> None:
    (root / "v2" / "_catalog").write_bytes(b'{"repositories":["ns/other"]}')


def with_a_tag_of_another_tool(root: Path) -> None:
    (root / V2 / "manifests" / "2").symlink_to(APP.digest.value)


def without_headers(root: Path) -> None:
    (root / layout.RepositoryLayout(APP.repository).manifest_headers(APP.digest)).unlink()


def without_its_folder(root: Path) -> None:
    shutil.rmtree(root / V2 / "manifests" / APP.digest.value)


CHANGES = [
    removed("manifests", "1.type-map"),
    rewritten("manifests", "1.type-map"),
    removed("tags", "list"),
    rewritten("tags", "list"),
    unfinished,
    damaged_beside_the_pool,
    not_in_the_pool,
    not_in_the_catalog,
    with_a_tag_of_another_tool,
    without_headers,
    without_its_folder,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_an_upload_would_mend_is_not_held(
    filled: LocalExportDriver, root: Path, change: Callable[[Path], None]
) -> None:
    change(root)
    assert not is_held(filled, APP)
    assert is_held(filled, OTHER)
    trees.put(filled, APP)
    assert is_held(filled, APP)
    assert trees.problems(root) == []


def test_a_referrer_that_is_in_no_list_is_not_held(filled: LocalExportDriver, root: Path) -> None:
    lists = root / layout.RepositoryLayout(APP.repository).referrers_of(APP.digest)
    shutil.rmtree(lists)
    assert not is_held(filled, ABOUT)
    assert is_held(filled, APP)


def test_a_list_of_which_children_were_left_out_is_held(filled: LocalExportDriver) -> None:
    filled.leave_out(LIST.repository, LIST.digest, [APP.digest])
    assert is_held(filled, LIST)
    assert filled.left_out(LIST.repository, LIST.digest) == {APP.digest}
    filled.leave_out(LIST.repository, LIST.digest, [])
    assert filled.left_out(LIST.repository, LIST.digest) == frozenset()


def test_another_default_child_is_written(filled: LocalExportDriver, root: Path) -> None:
    assert is_held(filled, LIST)
    other = LocalExportDriver(root, default_architecture="arm64")
    two = images.index(
        "ns/app",
        "two",
        [APP, images.image("ns/app", None, [], oci=True, architecture="arm64")],
        oci=True,
    )
    trees.put(filled, two)
    assert is_held(filled, two)
    assert not is_held(other, two)
    other.close()


def test_what_comes_later_is_offered_by_all_tags(filled: LocalExportDriver, root: Path) -> None:
    arm, amd = (
        images.image("ns/app", None, [], oci=True, architecture=a) for a in ("arm64", "amd64")
    )
    index = images.index("ns/app", "some", [arm, amd], oci=True)
    for tag in ("some", "same"):
        trees.put(filled, dataclasses.replace(index, children=(arm,)), tag)
    trees.put(filled, APP, "other")
    filled.leave_out(index.repository, index.digest, [amd.digest])
    trees.put(filled, dataclasses.replace(index, children=(amd,)), "some")
    filled.leave_out(index.repository, index.digest, [])
    for tag in ("some", "same"):
        assert (root / V2 / ".defaults" / tag).readlink().name == str(amd.digest)
    assert trees.problems(root) == []


def test_a_tag_that_cannot_be_read_is_left_alone(filled: LocalExportDriver, root: Path) -> None:
    filled.leave_out(LIST.repository, LIST.digest, [APP.digest])
    damaged = root / V2 / "manifests" / "1.type-map"
    damaged.write_bytes(b"damaged")
    filled.leave_out(LIST.repository, LIST.digest, [])
    assert filled.left_out(LIST.repository, LIST.digest) == frozenset()
    assert damaged.read_bytes() == b"damaged"
