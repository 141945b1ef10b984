# SPDX-License-Identifier: Apache-2.0
"""Leases: which files there are, and which blobs they protect from a delete."""

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import trees
from tests.support.faults import Primitive, hooked

NAME = RepositoryName("ns/img")
SHARED = [images.layer({"shared": b"%d" % n}) for n in range(3)]
TIMEOUT = 3600


@pytest.fixture
def driver(root: Path) -> Iterator[LocalExportDriver]:
    """A tree whose pool has the shared layers, and where the repository has an image to delete."""
    with LocalExportDriver(root, lease_timeout=TIMEOUT) as driver:
        trees.put(driver, images.image("elsewhere", "1.0", SHARED))
        trees.put(driver, image("beside", shared=[]))
        yield driver


def image(tag: str, shared: list[images.Blob] = SHARED, name: str = "ns/img") -> Image:
    """An image with two layers of its own."""
    own = [images.layer({"own": b"%d of %s" % (n, tag.encode())}) for n in range(2)]
    return images.image(name, tag, [*shared, *own])


def layers(one: Image) -> list[Descriptor]:
    return list(one.manifest.blobs())


def bring(driver: LocalExportDriver, one: Image) -> None:
    """Mount and upload the blobs of an image."""
    mounted = driver.mount_layers(one.repository, layers(one))
    upload(driver, one, {layer.digest for layer in layers(one)} - mounted)


def upload(driver: LocalExportDriver, one: Image, digests: set[Digest]) -> None:
    for digest in sorted(digests):
        driver.upload_layer(one.repository, [one.blobs[digest]], expected=digest)


def name(driver: LocalExportDriver, one: Image) -> None:
    parsed = one.manifest
    driver.put_manifest(one.repository, parsed.content, parsed.media_type, tag=one.tag)


def delete(driver: LocalExportDriver, tag: str) -> None:
    driver.delete(ImageRef(NAME, Tag(tag)))


def lease_files(root: Path) -> list[Path]:
    found = (root / ".local-export/leases").rglob("*")
    return sorted(path for path in found if path.is_file())


def live(root: Path) -> set[Digest]:
    tree = Tree(root, lease_timeout=TIMEOUT)
    return {*tree.leases.live(tree.repository(NAME).layout)}


def test_an_image_has_one_file(driver: LocalExportDriver, root: Path) -> None:
    """Also where another image brings one of its layers meanwhile."""
    one, other = image("1.0"), image("1.0", name="other")
    mounted = driver.mount_layers(NAME, layers(one))
    (lease,) = lease_files(root)
    first, *others = sorted(set(one.blobs) - mounted)
    bring(driver, other)
    name(driver, other)
    assert driver.mount_layers(NAME, trees.described(first)) == {first}
    upload(driver, one, {*others})
    assert lease_files(root) == [lease]
    assert live(root) == set(one.blobs)
    name(driver, one)
    assert lease_files(root) == []


def test_a_manifest_ends_the_lease_of_its_own_upload(driver: LocalExportDriver, root: Path) -> None:
    one = image("1.0")
    first, *_ = one.blobs
    upload(driver, one, {first})
    bring(driver, one)
    name(driver, one)
    assert live(root) == {first}


def test_what_was_mounted_and_what_was_uploaded_is_protected(
    driver: LocalExportDriver, root: Path
) -> None:
    one = image("1.0")
    bring(driver, one)
    with LocalExportDriver(root) as deleting:
        delete(deleting, "beside")
    name(driver, one)
    assert trees.problems(root) == []
    assert lease_files(root) == []


def test_a_manifest_ends_no_lease_of_an_image_that_shares_layers(
    driver: LocalExportDriver, root: Path
) -> None:
    first, second = image("first"), image("second")
    bring(driver, first)
    bring(driver, second)
    assert len(lease_files(root)) == 2
    name(driver, second)
    assert live(root) == set(first.blobs)
    delete(driver, "second")
    name(driver, first)
    assert lease_files(root) == []
    assert trees.problems(root) == []


@pytest.mark.parametrize("mounts", [True, False])
def test_an_image_in_two_uploads_at_once(
    driver: LocalExportDriver, root: Path, mounts: bool
) -> None:
    """Each has a lease on what the other has brought."""
    one = image("1.0")
    if mounts:
        missing = [set(one.blobs) - driver.mount_layers(NAME, layers(one)) for _ in range(2)]
    else:
        missing = [set(one.blobs)] * 2
    for digests in missing:
        upload(driver, one, digests)
    name(driver, one)
    assert live(root) == set(one.blobs)
    delete(driver, "1.0")
    name(driver, one)
    assert lease_files(root) == []
    assert trees.problems(root) == []


@pytest.mark.parametrize("quick_is_first", [True, False])
def test_an_upload_that_was_waited_for_by_an_image_with_other_layers(
    driver: LocalExportDriver, root: Path, quick_is_first: bool
) -> None:
    """It uses what the mount for another image has spare, which then takes its own."""
    slow = image("slow")
    last = slow.manifest.layers[-1]
    same = images.Blob(slow.blobs[last.digest], last.media_type)
    quick = images.image("ns/img", "quick", [same, images.layer({"own": b"more"})])
    mounted = driver.mount_layers(NAME, layers(slow))
    upload(driver, quick, set(quick.blobs))
    upload(driver, slow, set(slow.blobs) - mounted)
    first, second = (quick, slow) if quick_is_first else (slow, quick)
    name(driver, first)
    assert live(root) == set(second.blobs)
    delete(driver, str(first.tag))
    name(driver, second)
    assert lease_files(root) == []
    assert trees.problems(root) == []


@pytest.mark.parametrize(("seconds", "files"), [(-(10**6), 1), (300, 1), (400, 3)])
def test_an_upload_uses_no_lease_that_ends_soon(
    driver: LocalExportDriver,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: int,
    files: int,
) -> None:
    """The config and one of two layers come late; a clock that is set back makes nothing old."""
    one = image("1.0")
    mounted = driver.mount_layers(NAME, layers(one))
    early, *late = sorted(set(one.blobs) - mounted)
    upload(driver, one, {early})
    now = time.time() + seconds
    monkeypatch.setattr(time, "time", lambda: now)
    upload(driver, one, {*late})
    assert len(lease_files(root)) == files
    assert live(root) == set(one.blobs)
    name(driver, one)
    assert len(lease_files(root)) == files - 1


def test_a_line_that_is_cut_off_counts_not_and_others_do(
    driver: LocalExportDriver, root: Path
) -> None:
    one = image("1.0")
    bring(driver, one)
    (lease,) = lease_files(root)
    content = lease.read_bytes()
    *others, last = map(Digest, content.decode().split())
    lease.write_bytes(content[:-2])
    assert live(root) == set(one.blobs) - {last}
    lease.write_bytes(b"\xff no digest \n" + content)
    assert live(root) == set(one.blobs)
    lease.write_bytes(b"")  # as earlier versions made it, for one blob each
    assert live(root) == set(one.blobs) - {*others, last}


def test_layers_from_elsewhere_are_named_by_their_manifest(
    driver: LocalExportDriver, root: Path
) -> None:
    """A run that copies them mounts them, too; no lease stays because of them."""
    foreign, own = SHARED[0], images.layer({"own": b"own"})
    described = [foreign.descriptor(urls=["https://layers.example/x"]), own.descriptor()]
    one = images.image("ns/img", "1.0", [foreign, own], layers=described)
    wanted = [*one.manifest.blobs(), *one.manifest.layers]
    upload(driver, one, set(one.blobs) - driver.mount_layers(NAME, wanted))
    name(driver, one)
    assert lease_files(root) == []


def test_a_full_disk_leaves_no_lease_in_part(driver: LocalExportDriver, root: Path) -> None:
    def full(primitive: Primitive) -> Any:
        if primitive.function is os.write and "leases" in primitive.path.parts:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return primitive()

    with hooked(full), pytest.raises(errors.StorageFull):
        driver.mount_layers(NAME, layers(image("1.0")))
    assert lease_files(root) == []
    trees.put(driver, image("1.0"))
    assert lease_files(root) == []
