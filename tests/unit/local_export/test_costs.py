# SPDX-License-Identifier: Apache-2.0
"""What an image costs, in calls of the system: numbers that must not grow unseen."""

import collections
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.storage import beneath, entries, flushes, locks
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support.faults import SYNCS, Primitive, hooked

BASES = [images.layer({"base": b"%d" % n}) for n in range(4)]


class Calls:
    """Counts the calls of a storage, by what they cost."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()

    def __call__(self, primitive: Primitive) -> Any:
        if primitive.function in SYNCS:
            self.counts["flushes"] += 1
        elif primitive.opens:
            self.counts["opens"] += 1
        elif primitive.function in (fcntl.flock, locks.take, locks.wait):
            self.counts["locks"] += 1
        elif primitive.function is os.unlink:
            self.counts["removals"] += 1
        self.counts["all"] += 1
        found = primitive()
        if primitive.function is entries.listing:
            self.counts["names"] += len(found)
        return found


@pytest.fixture
def driver(root: Path) -> Iterator[LocalExportDriver]:
    """A tree with an image, in a process that has written before."""
    with LocalExportDriver(root) as driver:
        copy(driver, image(0))
        copy(driver, image(1))
        yield driver


def image(number: int, name: str | None = None, tag: str = "1.0") -> Image:
    """An image as deployments have them: four layers are shared, two are its own."""
    own = [images.layer({"own": b"%d of %d" % (n, number)}) for n in range(2)]
    labels = {"number": str(number)}
    return images.image(name or f"ns/image{number}", tag, [*BASES, *own], labels=labels)


def copy(driver: LocalExportDriver, one: Image, tag: str | None = None) -> None:
    """Copy an image as copying does: ask, mount, upload what is missing, put."""
    layers = list(one.manifest.blobs())
    driver.present(one.repository, layers)
    mounted = driver.mount_layers(one.repository, layers)
    for layer in layers:
        if layer.digest not in mounted:
            content = one.blobs[layer.digest]
            driver.upload_layer(one.repository, [content], expected=layer.digest, size=len(content))
    driver.put_manifest(
        one.repository,
        one.manifest.content,
        one.manifest.media_type,
        tag=Tag(tag) if tag else one.tag,
    )


def cost(driver: LocalExportDriver, one: Image, tag: str | None = None) -> dict[str, int]:
    calls = Calls()
    with hooked(calls):
        copy(driver, one, tag)
    return dict(calls.counts)


needs_syncfs = pytest.mark.skipif(
    not (beneath.is_available() and flushes.reports_errors()), reason="Linux before 5.8"
)


@needs_syncfs
def test_an_image_in_a_repository_of_its_own(driver: LocalExportDriver) -> None:
    """By one thread alone: several images at once share the flushes and the catalog."""
    found = cost(driver, image(2))
    assert found["flushes"] <= 12
    assert found["opens"] <= 104
    assert found["locks"] <= 10
    assert found["removals"] <= 3
    assert found["all"] <= 300


@needs_syncfs
def test_an_image_beside_others_of_its_repository(driver: LocalExportDriver) -> None:
    for number in range(3, 6):
        copy(driver, image(number, "ns/many", f"{number}.0"))
    found = cost(driver, image(6, "ns/many", "6.0"))
    assert found["flushes"] <= 12
    assert found["opens"] <= 85
    assert found["all"] <= 250


@needs_syncfs
def test_a_moved_tag(driver: LocalExportDriver) -> None:
    copy(driver, image(3, "ns/many", "3.0"))
    copy(driver, image(4, "ns/many", "4.0"))
    found = cost(driver, image(4, "ns/many", "4.0"), "3.0")
    assert found["flushes"] <= 3
    assert found["opens"] <= 45


@needs_syncfs
def test_an_unchanged_image(driver: LocalExportDriver) -> None:
    one, calls = image(1), Calls()
    with hooked(calls):
        held = driver.held_manifest(one.repository, one.digest, tag=one.tag)
    assert held == one.manifest
    assert calls.counts["opens"] <= 26
    assert calls.counts["all"] <= 52


@needs_syncfs
@pytest.mark.parametrize("count", [10, 200])
def test_another_tag_costs_the_same_beside_many(driver: LocalExportDriver, count: int) -> None:
    one = image(3, "ns/many", "first")
    copy(driver, one)
    for n in range(count):
        driver.put_manifest(
            one.repository, one.manifest.content, one.manifest.media_type, tag=Tag(f"t{n:03}")
        )
    found = cost(driver, one, "t0051")
    assert found["flushes"] <= 4
    assert found["opens"] <= 95
    assert found["names"] <= 8


def served(root: Path) -> int:
    """How many files and folders are served, beside blobs, which the pool has."""
    found = [path for path in (root / "v2").rglob("*") if path.parent.name != "blobs"]
    return len({path.lstat().st_ino for path in found})


@pytest.mark.parametrize("name", [None, "ns/image0"], ids=["a repository each", "one repository"])
def test_a_plan_is_told_how_many_files_come(
    driver: LocalExportDriver, root: Path, name: str | None
) -> None:
    room = driver.room()
    told = room.tag.files + room.manifest.files + (0 if name else room.repository.files)
    before = served(root)
    for number in range(10, 30):
        copy(driver, image(number, name, str(number)))
    assert (served(root) - before) / 20 == pytest.approx(told, rel=0.1)


def test_a_plan_is_told_how_many_files_come_with_a_list(
    driver: LocalExportDriver, root: Path
) -> None:
    children = [image(number, "ns/image0") for number in range(10, 30)]
    before = served(root)
    for child in children:
        copy(driver, dataclasses.replace(child, tag=None))
    index = images.index("ns/image0", "list", children)
    driver.put_manifest(
        index.repository, index.manifest.content, index.manifest.media_type, tag=index.tag
    )
    told = driver.room().tag.files + 21 * driver.room().manifest.files
    assert served(root) - before == pytest.approx(told, rel=0.1)
