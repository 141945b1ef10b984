# SPDX-License-Identifier: Apache-2.0

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.local_export import layout, tidied
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import entries
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import trees
from tests.support.faults import Primitive, hooked

MANIFESTS = layout.RepositoryLayout(RepositoryName("ns/img")).manifests


class Lists:
    """Counts how often the names of all tags are read."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, primitive: Primitive) -> Any:
        self.count += primitive.function is entries.listing and primitive.path == MANIFESTS
        return primitive()


@pytest.fixture
def driver(root: Path) -> Iterator[LocalExportDriver]:
    with LocalExportDriver(root) as driver:
        yield driver


def image(tag: str) -> Image:
    return images.image("ns/img", tag, [], labels={"tag": tag})


def put(driver: LocalExportDriver, tag: str) -> int:
    """Put an image; return how often all tags were looked at."""
    lists = Lists()
    with hooked(lists):
        trees.put(driver, image(tag))
    return lists.count


def test_a_process_looks_at_all_tags_once(driver: LocalExportDriver) -> None:
    put(driver, "1")
    assert put(driver, "2") <= 1  # what a process does not know of the list is read
    assert [put(driver, tag) for tag in ("3", "4", "2")] == [0, 0, 0]
    assert trees.tags(driver._tree.storage.root, "ns/img") == ["1", "2", "3", "4"]


def other_tool_writes(root: Path, tag: str) -> None:
    """Write a tag as tripleo-common did, which takes no lock; the folder's time is another then."""
    before = (root / MANIFESTS).stat().st_mtime_ns
    while (root / MANIFESTS).stat().st_mtime_ns == before:
        (root / MANIFESTS / tag).unlink(missing_ok=True)
        (root / MANIFESTS / tag).symlink_to(str(image("1").digest))


def test_what_others_write_is_noticed(driver: LocalExportDriver, root: Path) -> None:
    for tag in ("1", "2", "3"):
        put(driver, tag)
    other_tool_writes(root, "old")
    assert put(driver, "4") > 0
    assert trees.tags(root, "ns/img") == ["1", "2", "3", "4", "old"]
    assert (root / MANIFESTS / "old.type-map").is_file()
    assert put(driver, "5") == 0


def test_what_others_write_in_the_same_moment_is_noticed_later(
    driver: LocalExportDriver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tag in ("1", "2", "3"):
        put(driver, tag)
    before = (root / MANIFESTS).stat()
    other_tool_writes(root, "old")
    os.utime(root / MANIFESTS, ns=(before.st_atime_ns, before.st_mtime_ns))
    # As if the clock of the file system had not moved on.
    tidied.TIDIED.remember(
        f"{root}/{MANIFESTS}",
        [*map(driver._tree.storage.status, (MANIFESTS, MANIFESTS.with_name(".tags")))],
    )
    put(driver, "4")
    assert trees.tags(root, "ns/img") == ["1", "2", "3", "4"]
    later = tidied.clock() + tidied.TRUSTED_FOR + 1
    monkeypatch.setattr(tidied, "clock", lambda: later)
    put(driver, "5")
    assert (root / MANIFESTS / "old.type-map").is_file()


def test_another_process_that_changes_a_repository_is_noticed(
    driver: LocalExportDriver, root: Path
) -> None:
    for tag in ("1", "2", "3"):
        put(driver, tag)
    before = (root / MANIFESTS).stat().st_mtime_ns
    child = os.fork()
    if not child:
        with LocalExportDriver(root) as other:
            clock = root.with_name("clock")
            clock.touch()
            while clock.stat().st_mtime_ns <= before:
                clock.touch()
            trees.put(other, image("theirs"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert put(driver, "4") > 0
    assert trees.tags(root, "ns/img") == ["1", "2", "3", "4", "theirs"]


def test_a_child_of_fork_trusts_nothing(driver: LocalExportDriver) -> None:
    for tag in ("1", "2", "3"):
        put(driver, tag)
    child = os.fork()
    if not child:
        os._exit(0 if put(driver, "4") > 0 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_longest_unused_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tidied.Tidied()
    for n in range(10_001):
        found.remember(str(n), [])
    assert not found.is_unchanged("0", list)
    assert found.is_unchanged("1", list)
