# SPDX-License-Identifier: Apache-2.0
"""What is kept of layers whose fetch broke off: how much, how long, and what gc and verify say."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Content
from image_uploader_plugins.errors import StorageFull
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance.collect import Collector, Garbage
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import Storage
from image_uploader_plugins.testing import images
from tests.support import trees
from tests.support.commands import Run
from tests.support.faults import Primitive, hooked

HERE = RepositoryName("ns/img")
MEGABYTE = bytes(1024 * 1024)
DAY = 24 * 60 * 60


class Torn(Content):
    """``whole`` megabytes, of which ``count`` come; then ``error``."""

    def __init__(self, letter: bytes, whole: int, count: int | None = None) -> None:
        self.content = letter + MEGABYTE * whole
        self.digest = Digest.of(self.content)
        self.error: Exception = ConnectionError()
        self._count = count

    def start_at(self, offset: int) -> Iterator[bytes]:
        yield self.content[offset : None if self._count is None else self._count * len(MEGABYTE)]
        if self._count is not None:
            raise self.error


def tear(root: Path, letter: bytes, count: int = 2, **options: Any) -> str:
    """Have an upload of 10 MiB break off after so many; returns the name of what is kept."""
    torn = Torn(letter, 10, count)
    with LocalExportDriver(root, **options) as driver, pytest.raises(ConnectionError):
        driver.upload_layer(HERE, torn, expected=torn.digest, size=len(torn.content))
    return layout.partial(torn.digest).name


def kept(root: Path) -> set[str]:
    folder = root / layout.PARTIAL
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def age(root: Path, name: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(root / layout.PARTIAL / name, (then, then))


def collect(root: Path, *, dry_run: bool = False, **options: Any) -> list[Garbage]:
    tree = Tree(root, **options)
    found = list(Collector(tree, dry_run=dry_run).collect())
    tree.close()
    return [garbage for garbage in found if garbage.path.is_relative_to(layout.PARTIAL)]


class Divided(Torn):
    """Comes a megabyte at a time."""

    def start_at(self, offset: int) -> Iterator[bytes]:
        for piece in super().start_at(offset):
            for at in range(0, len(piece), len(MEGABYTE)):
                yield piece[at : at + len(MEGABYTE)]


@pytest.mark.parametrize("breaks_off", [False, True])
@pytest.mark.parametrize("is_gzipped", [False, True])
def test_the_first_bytes_of_all_decide_on_the_name(
    root: Path, is_gzipped: bool, breaks_off: bool
) -> None:
    """And not those of the last piece, or of what comes when it goes on."""
    magic = b"\x1f\x8b"
    content = magic + 2 * MEGABYTE if is_gzipped else 2 * MEGABYTE + magic
    with LocalExportDriver(root) as driver:
        for count in (2, None) if breaks_off else (None,):
            divided = Divided(b"", 0, count)
            divided.content, divided.digest = content, Digest.of(content)
            with pytest.raises(ConnectionError) if count else contextlib.nullcontext():
                driver.upload_layer(HERE, divided, expected=divided.digest, size=len(content))
    (blob,) = (root / "v2/ns/img/blobs").iterdir()
    assert blob.name == f"{Digest.of(content)}{'.gz' if is_gzipped else ''}"
    assert blob.read_bytes() == content


def test_it_is_private(root: Path) -> None:
    (root / layout.PARTIAL / tear(root, b"a")).stat()
    assert (root / layout.PARTIAL).stat().st_mode & 0o7777 == 0o700
    assert (root / layout.PARTIAL / tear(root, b"a")).stat().st_mode & 0o7777 == 0o600


def test_the_oldest_gives_way(root: Path) -> None:
    """There is to be room for the whole of what begins."""
    names = [tear(root, letter) for letter in (b"a", b"b", b"c")]
    assert kept(root) == set(names)
    for name, seconds in zip(names, (100, 300, 200), strict=True):
        age(root, name, seconds)
    new = tear(root, b"d", partial_limit=15 * len(MEGABYTE))
    assert kept(root) == {names[0], names[2], new}


def test_what_is_larger_than_the_limit_is_not_kept(root: Path) -> None:
    old = tear(root, b"a")
    tear(root, b"b", partial_limit=5 * len(MEGABYTE))
    assert kept(root) == {old}


def test_a_layer_without_a_size_ends_within_the_limit(root: Path) -> None:
    torn = Torn(b"a", 10, 6)
    for limit, count in ((5, 0), (6, 1)):
        with (
            LocalExportDriver(root, partial_limit=limit * len(MEGABYTE)) as driver,
            pytest.raises(ConnectionError),
        ):
            driver.upload_layer(HERE, torn, expected=torn.digest)
        assert len(kept(root)) == count


def test_what_nobody_has_gone_on_with_for_long_gives_way(root: Path) -> None:
    old, young = tear(root, b"a"), tear(root, b"b")
    age(root, old, 3 * DAY + 10)
    age(root, young, 3 * DAY - 1000)
    new = tear(root, b"c", partial_days=3)
    assert kept(root) == {young, new}


def test_what_is_being_fetched_stays(root: Path) -> None:
    name = tear(root, b"a")
    age(root, name, 100 * DAY)
    tree = Tree(root)
    with tree.fetch_lock(Torn(b"a", 10).digest):
        tear(root, b"b", partial_limit=10 * len(MEGABYTE))
        assert collect(root) == []
        assert name in kept(root)
    assert [garbage.path.name for garbage in collect(root)] == [name]
    assert name not in kept(root)


def test_gc(root: Path, run: Run) -> None:
    tear(root, b"a")
    young, old, come = tear(root, b"b"), tear(root, b"c"), tear(root, b"d")
    age(root, old, 8 * DAY)
    torn = Torn(b"d", 10)
    with LocalExportDriver(root) as driver:
        driver.upload_layer(HERE, [torn.content], expected=torn.digest)
    (root / layout.PARTIAL / "junk").mkdir()
    (root / layout.PARTIAL / "junk" / "file").write_bytes(b"junk")
    (root / layout.PARTIAL / "link").symlink_to("/")
    before = kept(root)
    lines = {
        f".local-export/partial/{old}: the rest of it has not come for 7 days, 2.1 MB",
        f".local-export/partial/{come}: the rest of it has come since, 2.1 MB",
        ".local-export/partial/junk: is no part of a tree",
        ".local-export/partial/link: is no part of a tree",
    }
    status, out = run("gc", "--dry-run").both
    assert (status, kept(root)) == (0, before)
    assert lines <= {
        line.rpartition(",")[0] if "no part" in line else line for line in out.splitlines()
    }
    assert "6 would go" in out  # with the blob that no manifest needs
    status, again = run("gc").both
    assert (status, again.replace("removed", "would go")) == (0, out)
    assert kept(root) == before - {old, come, "junk", "link"}
    assert young in kept(root)


def test_gc_without_a_limit_removes_all(root: Path) -> None:
    names = {tear(root, letter) for letter in (b"a", b"b")}
    assert {g.path.name for g in collect(root, dry_run=True, partial_limit=0)} == names
    assert kept(root) == names
    assert {g.path.name for g in collect(root, partial_limit=0)} == names
    assert kept(root) == set()


def test_verify(root: Path, run: Run) -> None:
    name = tear(root, b"a")
    with LocalExportDriver(root) as driver:
        trees.put(driver, images.image("ns/img", "1.0", [images.layer({"file": b"one"})]))
    assert run("verify").status == 0
    (root / layout.PARTIAL / "junk").write_bytes(b"junk")
    assert run("verify").status == 0
    status, out = run("verify", "--strict").both
    assert status == 1
    assert ".local-export/partial/junk: is no part of a tree" in out
    assert name not in out
    assert run("verify", "--repair").status == 0
    assert kept(root) == {name}
    assert run("verify").status == 0


@pytest.mark.parametrize("keeping", [True, False])
def test_a_full_disk_keeps_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, keeping: bool
) -> None:
    """Neither of the layer that does not fit nor of others."""
    tear(root, b"a")

    def full(*arguments: object) -> None:
        raise StorageFull(root, "No space left on device")

    monkeypatch.setattr(Storage, "write_all", full)
    content = Torn(b"b", 10)
    chunks = content if keeping else [content.content]
    with LocalExportDriver(root) as driver, pytest.raises(StorageFull):
        driver.upload_layer(HERE, chunks, expected=content.digest, size=len(content.content))
    assert kept(root) == set()


def test_what_cannot_be_put_into_place_is_not_kept(root: Path) -> None:
    def full(primitive: Primitive) -> Any:
        if primitive.function is os.rename:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return primitive()

    content = Torn(b"a", 3)
    with LocalExportDriver(root) as driver:
        with hooked(full), pytest.raises(StorageFull):
            driver.upload_layer(HERE, content, expected=content.digest, size=len(content.content))
        assert kept(root) == set()
