# SPDX-License-Identifier: Apache-2.0
"""The defects that targets of this kind had, one test each, by number.

1 and 3 to 26 are what was seen in the code this driver takes the place of;
those that only tripleo-common can cause are tested with it.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import multiprocessing
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.storage import flushes
from image_uploader_plugins.testing import images
from tests.support import legacy, trees

NAME = RepositoryName("ns/img")
EVIL = ("/etc/passwd", "../../../evil", "sha256:../../evil", 'a"\nHeader set X y', "a\0b", "")


def one(text: str = "one", tag: str = "1.0", name: str = "ns/img") -> images.Image:
    return images.image(name, tag, [images.layer({"file": text.encode()})])


def forged(**fields: object) -> bytes:
    return json.dumps(json.loads(one().manifest.content) | fields).encode()


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("where", ["config", "layers"])
def test_defect_01_a_digest_that_is_a_path(
    driver: LocalExportDriver, root: Path, evil: str, where: str
) -> None:
    descriptor = {"mediaType": media_types.DOCKER_LAYER_GZIP, "size": 1, "digest": evil}
    content = forged(**{where: descriptor if where == "config" else [descriptor]})
    before = trees.served(root)
    with pytest.raises(errors.ManifestInvalid):
        driver.put_manifest(NAME, content, media_types.DOCKER_MANIFEST, tag=Tag("1.0"))
    assert trees.served(root) == before


@pytest.mark.parametrize("evil", [*EVIL, "a/../b", "A", "manifests", "a/blobs", "a//b", "a/"])
def test_defect_02_a_tag_or_name_that_is_a_path(evil: str) -> None:
    with pytest.raises(errors.InvalidReference):
        RepositoryName(evil)
    if evil not in ("A", "manifests"):
        with pytest.raises(errors.InvalidReference):
            Tag(evil)


@pytest.mark.parametrize("evil", ['application/json"\nHeader set X "y', "text/html", "", "a/b c"])
def test_defect_03_a_media_type_that_is_a_directive(
    driver: LocalExportDriver, root: Path, evil: str
) -> None:
    before = trees.served(root)
    for content in (forged(mediaType=evil or "x"), one().manifest.content):
        with pytest.raises(errors.ManifestInvalid):
            driver.put_manifest(NAME, content, evil, tag=Tag("1.0"))
    assert trees.served(root) == before


@pytest.mark.parametrize(
    "place",
    ["v2/ns", "v2/ns/img", "v2/ns/img/blobs", "v2/ns/img/manifests", ".local-export/staging",
     ".local-export/pool", ".local-export/locks", ".local-export/leases"],
)  # fmt: skip
def test_defect_04_a_symlink_in_the_tree(root: Path, tmp_path: Path, place: str) -> None:
    LocalExportDriver(root)
    outside = tmp_path / "outside"
    outside.mkdir()
    link = root / place
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        link.rename(tmp_path / "moved")
    link.symlink_to(outside)
    with pytest.raises(errors.StorageError, match="symbolic link"):
        trees.put_in(root, one())
    assert list(outside.iterdir()) == []


def test_defect_04_a_symlink_in_a_files_place(
    driver: LocalExportDriver, root: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    image = one()
    folder = root / "v2/ns/img/manifests" / str(image.digest)
    folder.mkdir(parents=True)
    for path in (
        folder / "index.json",
        folder / ".htaccess",
        folder.parent / "1.0.type-map",
        root / "v2/ns/img/tags/list",
    ):
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(victim)
    trees.put(driver, image)
    assert victim.read_text() == "precious"
    assert trees.problems(root) == []


def test_defect_05_a_config_that_is_not_what_the_manifest_says(
    driver: LocalExportDriver, root: Path
) -> None:
    image = one()
    driver.upload_layer(NAME, [image.blobs[image.manifest.layers[0].digest]])
    before = trees.served(root)
    config = image.manifest.config
    assert config is not None
    for content in (b"{}", image.blobs[config.digest][:-1] + b" "):
        with pytest.raises(errors.ContentMismatch):
            driver.put_manifest(
                NAME, image.manifest.content, image.manifest.media_type, config=content
            )
    assert trees.served(root) == before


def test_defect_06_a_manifest_without_its_layers(driver: LocalExportDriver, root: Path) -> None:
    before = trees.served(root)
    with pytest.raises(errors.BlobUnknown):
        driver.put_manifest(NAME, forged(), media_types.DOCKER_MANIFEST, tag=Tag("1.0"))
    assert trees.served(root) == before


def test_defect_07_a_longer_leftover(driver: LocalExportDriver, root: Path) -> None:
    image = one()
    for digest in image.blobs:
        for suffix in ("", ".gz"):
            leftover = root / "v2/ns/img/blobs" / f"{digest}{suffix}"
            leftover.parent.mkdir(parents=True, exist_ok=True)
            leftover.write_bytes(b"x" * 100_000)
    trees.put(driver, image)
    assert trees.problems(root) == []


def test_defect_08_a_write_through_a_hard_link(driver: LocalExportDriver, root: Path) -> None:
    trees.put(driver, one(name="a"))
    blob = next((root / "v2/a/blobs").glob("*.gz"))
    inode, content = blob.stat().st_ino, blob.read_bytes()
    trees.put(driver, one(name="b"))
    with pytest.raises(errors.DigestMismatch):
        driver.upload_layer(RepositoryName("b"), [b"bad"], expected=Digest.of(b"other"))
    trees.put(driver, one(name="a"))
    assert (blob.stat().st_ino, blob.read_bytes()) == (inode, content)


def test_defect_09_an_empty_chunk(driver: LocalExportDriver) -> None:
    stored = driver.upload_layer(NAME, [b"a", b"", b"b"], expected=Digest.of(b"ab"))
    assert stored.size == 2


def test_defect_10_type_maps_tell_the_truth(driver: LocalExportDriver, root: Path) -> None:
    layer = images.layer({"file": b"x"})
    schema1 = {"schemaVersion": 1, "fsLayers": [{"blobSum": str(layer.digest)}] * 2}
    driver.upload_layer(NAME, [layer.content])
    for number, (fields, kind) in enumerate(
        [
            (schema1, media_types.DOCKER_SCHEMA1),
            (schema1 | {"signatures": [{"x": "y"}]}, media_types.DOCKER_SCHEMA1_SIGNED),
        ]
    ):
        driver.put_manifest(NAME, json.dumps(fields).encode(), kind, tag=Tag(f"s{number}"))
        text = (root / f"v2/ns/img/manifests/s{number}.type-map").read_text()
        assert f"Content-Type: {kind}\n" in text
    deletion = [driver.delete(ImageRef(NAME, Tag(f"s{number}"))) for number in range(2)]
    assert deletion[1].blobs == (layer.digest,)


def test_defect_11_nobody_sees_half_a_blob(driver: LocalExportDriver, root: Path) -> None:
    blob = images.layer({"file": os.urandom(1000)})
    before = trees.served(root)

    def watched() -> Iterator[bytes]:
        for start in range(0, len(blob.content), 100):
            yield blob.content[start : start + 100]
            assert trees.served(root) == before
            assert not driver.mount_layers(RepositoryName("other"), trees.described(blob.digest))

    driver.upload_layer(NAME, watched())
    assert trees.problems(root) == []


def _hang_in_a_layer(root: Path, started: multiprocessing.synchronize.Event) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        started.set()
        signal.pause()

    LocalExportDriver(root).upload_layer(NAME, chunks(), expected=Digest.of(b"half and half"))


@pytest.mark.slow
def test_defect_12_killed_in_a_layer_and_uploaded_again(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    child = context.Process(target=_hang_in_a_layer, args=(root, started))
    child.start()
    assert started.wait(60)
    child.kill()
    child.join()
    driver = LocalExportDriver(root)
    stored = driver.upload_layer(NAME, [b"half and half"], expected=Digest.of(b"half and half"))
    assert stored.size == 13
    assert (root / "v2/ns/img/blobs" / str(stored.digest)).read_bytes() == b"half and half"


def test_defect_12_a_blob_of_no_bytes_is_not_believed(root: Path) -> None:
    image = one()
    legacy.write_blobs(root, image)
    layer = image.manifest.layers[0].digest
    (root / "v2/ns/img/blobs" / f"{layer}.gz").write_bytes(b"")
    driver = LocalExportDriver(root)
    other, asked = RepositoryName("other"), trees.described(layer)
    assert driver.mount_layers(NAME, asked) == frozenset()
    assert driver.mount_layers(other, asked, {layer: NAME}) == frozenset()
    trees.put(driver, image)
    assert trees.problems(root) == []


@pytest.mark.slow
def test_defect_13_readers_beside_a_writer(driver: LocalExportDriver, root: Path) -> None:
    pair = [one("a"), one("b")]
    for image in pair:
        trees.put(driver, image)
    done = threading.Event()

    def read() -> int:
        count = 0
        while not done.is_set() or not count:
            assert trees.tags(root, "ns/img") == ["1.0"]
            assert trees.catalog(root) == ["ns/img"]
            text = (root / "v2/ns/img/manifests/1.0.type-map").read_text()
            assert any(str(image.digest) in text for image in pair)
            (root / "v2/ns/img/.tags/1.0/index.json").read_bytes()
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor() as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for image in itertools.islice(itertools.cycle(pair), 100):
                trees.put(driver, image)
        finally:
            done.set()
        assert all(reader.result() for reader in readers)


def test_defect_14_content_is_durable_before_it_is_visible(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    fsync, rename, sync_file_system = os.fsync, os.rename, flushes.sync_file_system

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    def watched_sync_file_system(descriptor: int) -> None:
        sync_file_system(descriptor)
        synced.update(path.lstat().st_ino for path in (root, *root.rglob("*")))

    def watched_rename(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        status = os.stat(source, dir_fd=src_dir_fd, follow_symlinks=False)
        assert stat.S_ISLNK(status.st_mode) or status.st_ino in synced, target
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        synced.discard(os.fstat(dst_dir_fd).st_ino)
        renamed.append(os.fstat(dst_dir_fd).st_ino)

    renamed: list[int] = []
    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    monkeypatch.setattr(flushes, "sync_file_system", watched_sync_file_system)
    trees.put_in(root, one())
    assert renamed
    assert set(renamed) <= synced


def test_defect_15_a_full_disk_leaves_no_config(
    driver: LocalExportDriver, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = one()
    config = image.manifest.config
    assert config is not None
    driver.upload_layer(NAME, [image.blobs[image.manifest.layers[0].digest]])
    before = trees.served(root)

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(errors.StorageFull):
            driver.put_manifest(
                NAME,
                image.manifest.content,
                image.manifest.media_type,
                tag=Tag("1.0"),
                config=image.blobs[config.digest],
            )
    assert trees.served(root) == before


def _put_tags(root: Path, prefix: str) -> None:
    driver = LocalExportDriver(root)
    for number in range(10):
        trees.put(driver, one(f"{prefix}{number % 3}"), f"{prefix}{number}")


@pytest.mark.slow
def test_defect_16_two_writers_lose_no_tag(root: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as pool:
        list(pool.map(_put_tags, [root] * 3, "abc"))
    assert trees.tags(root, "ns/img") == sorted(f"{p}{n}" for p in "abc" for n in range(10))
    assert trees.problems(root) == []


def test_defect_17_a_delete_between_layers_and_manifest(root: Path) -> None:
    uploading, deleting = LocalExportDriver(root), LocalExportDriver(root)
    trees.put(deleting, one("other", "other"))
    image = one()
    for content in image.blobs.values():
        uploading.upload_layer(NAME, [content])
    deleting.delete(ImageRef(NAME, Tag("other")))
    uploading.put_manifest(NAME, image.manifest.content, image.manifest.media_type, tag=Tag("1.0"))
    assert trees.problems(root) == []


def test_defect_18_upload_delete_upload(driver: LocalExportDriver, root: Path) -> None:
    trees.put(driver, one())
    driver.delete(ImageRef(NAME, Tag("1.0")))
    trees.put(driver, one())
    assert trees.tags(root, "ns/img") == ["1.0"]
    assert trees.problems(root) == []


def test_defect_19_a_delete_beside_a_list(driver: LocalExportDriver, root: Path) -> None:
    index = images.corpus()[-2]
    other = one("other", "other", str(index.repository))
    for image in (index, other):
        trees.put(driver, image)
    deletion = driver.delete(ImageRef(other.repository, Tag("other")))
    assert deletion.manifests == (other.digest,)
    assert trees.problems(root) == []
    for child in index.children:
        for digest in child.blobs:
            assert list((root / "v2" / str(index.repository) / "blobs").glob(f"{digest}*"))


def test_defect_20_a_nested_repository_outlives_its_namesake(
    driver: LocalExportDriver, root: Path
) -> None:
    trees.put(driver, one())
    trees.put(driver, one(name="ns/img/sub"))
    driver.delete(ImageRef(NAME, Tag("1.0")))
    assert trees.catalog(root) == ["ns/img/sub"]
    assert trees.problems(root) == []


@pytest.mark.parametrize("absent", ["no/such:tag", "ns/img:no", f"ns/img@{Digest.of(b'')}"])
def test_defect_21_an_absent_image(driver: LocalExportDriver, root: Path, absent: str) -> None:
    trees.put(driver, one())
    before = trees.served(root)
    with pytest.raises(errors.ImageUnknown, match=absent):
        driver.delete(ImageRef.parse(absent))
    assert trees.served(root) == before
    with pytest.raises(errors.InvalidReference):
        ImageRef.parse("ns/img")


def test_defect_22_the_catalog_at_any_depth(driver: LocalExportDriver, root: Path) -> None:
    for name in ("z", "a", "b/c/d/e", "b/c", "b-c"):
        trees.put(driver, one(name=name))
    assert trees.catalog(root) == ["a", "b-c", "b/c", "b/c/d/e", "z"]


def test_defect_23_no_tag_is_no_tag(driver: LocalExportDriver, root: Path) -> None:
    image = images.image("ns/img", None, [images.layer({"file": b"x"})])
    trees.put(driver, image)
    assert trees.tags(root, "ns/img") == []
    assert not list(root.rglob("None*"))


def test_defect_25_of_two_variants_the_list_wins(driver: LocalExportDriver, root: Path) -> None:
    index = images.corpus()[-2]
    trees.put(driver, index)
    text = (root / "v2/multi/docker/manifests/1.0.type-map").read_text()
    assert text.index(f"{media_types.DOCKER_LIST}; qs=1.0") < text.index("; qs=0.5")


@pytest.mark.parametrize("tag", ["1.0.json", "x.type-map"])
def test_defect_26_tags_that_cannot_be_served(
    driver: LocalExportDriver, root: Path, tag: str
) -> None:
    before = set(trees.served(root))
    with pytest.raises(errors.InvalidReference, match="cannot be served"):
        trees.put(driver, one(), tag)
    assert not [path for path in set(trees.served(root)) - before if "manifests" in path]
