# SPDX-License-Identifier: Apache-2.0
"""What is damaged on the disk is brought anew by the next upload of it, in all who share it."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import hashing, layout
from image_uploader_plugins.local_export.layout import PLACES
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification, repair
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, Tag
from image_uploader_plugins.sources.source import Source
from image_uploader_plugins.storage import Storage
from image_uploader_plugins.storage.folders import Folders
from image_uploader_plugins.testing import images
from tests.support import trees

LAYER = images.Blob(b"\x1f\x8b" + bytes(range(1, 256)) * 40, media_types.DOCKER_LAYER_GZIP)
NAMES = ("ns/a", "ns/b", "c")
A, B, C = (images.image(name, "1.0", [LAYER]) for name in NAMES)
DESCRIBED = Descriptor(media_types.DOCKER_LAYER_GZIP, LAYER.digest, len(LAYER.content))


def _truncate(file: int) -> None:
    os.ftruncate(file, 1000)


def _empty(file: int) -> None:
    os.ftruncate(file, 0)


def _flip(file: int) -> None:
    os.pwrite(file, bytes([os.pread(file, 1, 100)[0] ^ 1]), 100)


def _zero(file: int) -> None:
    os.pwrite(file, bytes(4096), 4096)


DAMAGES = {"truncated": _truncate, "emptied": _empty, "flipped": _flip, "zeroed": _zero}
OF_SIZE = ("truncated", "emptied")


def pooled(root: Path) -> Path:
    return root / layout.pool_blob(LAYER.digest)


def blob(root: Path, name: str) -> Path:
    return root / f"v2/{name}/blobs/{LAYER.digest}.gz"


def damage(path: Path, kind: str) -> None:
    """As a disk does it: where the bytes are, under all their names."""
    file = os.open(path, os.O_RDWR)
    DAMAGES[kind](file)
    os.close(file)


def refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)


@pytest.fixture(params=["links", "copies"])
def linking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "copies":
        refuse_links(monkeypatch)
    return bool(request.param == "links")


class Origin(Source):
    """Where the images come from; ``asked`` are the blobs that were fetched."""

    def __init__(self, image: images.Image) -> None:
        self._image = image
        self.asked: list[Digest] = []

    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        return self._image.manifest

    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        self.asked.append(descriptor.digest)
        yield self._image.blobs[descriptor.digest]


def copy(root: Path, image: images.Image, *, check: bool = False) -> list[Digest]:
    """As ``upload`` does; returns what was fetched."""
    source = Origin(image)
    with LocalExportDriver(root) as driver:
        copier = Copier(
            driver,
            image.repository,
            source,
            options=CopyOptions(check_present=check),
        )
        copier.copy(Tag("1.0"), Tag("1.0"), all_platforms=False)
    return source.asked


def fill(root: Path) -> None:
    for image in (A, B):
        copy(root, image)


@pytest.mark.slow
@pytest.mark.parametrize("image", [A, C], ids=["again", "a new one"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_pool_is_healed_by_an_upload(
    root: Path, linking: bool, kind: str, image: images.Image
) -> None:
    """And with it every repository that shares the damaged file."""
    fill(root)
    damage(pooled(root), kind)
    copy(root, image, check=kind not in OF_SIZE)
    held = [pooled(root), *(blob(root, name) for name in NAMES if blob(root, name).exists())]
    assert len(held) == (3 if image is A else 4)
    assert [path.read_bytes() == LAYER.content for path in held] == [True] * len(held)
    assert len({path.stat().st_ino for path in held}) == (1 if linking else len(held))
    assert trees.problems(root) == []
    assert copy(root, image, check=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_copy_is_healed_from_the_pool(
    root: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where links are refused: nothing needs to be fetched."""
    refuse_links(monkeypatch)
    fill(root)
    damage(blob(root, "ns/a"), kind)
    assert copy(root, A, check=kind not in OF_SIZE) == []
    assert blob(root, "ns/a").read_bytes() == LAYER.content


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_pool_is_healed_from_an_intact_copy(
    root: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch)
    fill(root)
    damage(pooled(root), kind)
    assert copy(root, A, check=kind not in OF_SIZE) == []
    assert pooled(root).read_bytes() == LAYER.content


def test_copies_of_what_was_damaged_are_healed_with_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the right size, and made before anybody looked."""
    refuse_links(monkeypatch)
    copy(root, A)
    damage(pooled(root), "flipped")
    copy(root, B)
    assert blob(root, "ns/b").read_bytes() != LAYER.content
    copy(root, C, check=True)
    assert blob(root, "ns/b").read_bytes() == LAYER.content
    assert trees.problems(root) == []


def test_what_is_intact_is_not_copied_again_where_links_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_links(monkeypatch)
    fill(root)
    before = blob(root, "ns/a").stat().st_ino
    for check in (False, True):
        assert copy(root, A, check=check) == []
    assert blob(root, "ns/a").stat().st_ino == before


def test_without_a_check_a_flipped_bit_is_not_seen(root: Path) -> None:
    """What the option is for: reading everything at every upload is for people to choose."""
    fill(root)
    damage(pooled(root), "flipped")
    assert copy(root, A) == []


@pytest.mark.slow
def test_a_wrong_size_in_a_manifest_harms_nothing(root: Path) -> None:
    fill(root)
    before = pooled(root).stat()
    content = A.manifest.content.replace(
        b'"size": %d' % len(LAYER.content), b'"size": %d' % (len(LAYER.content) - 1)
    )
    assert content != A.manifest.content
    lying = images.Image(C.repository, Tag("1.0"), Manifest.parse(content), A.blobs)
    for check in (False, True):
        with pytest.raises(errors.SizeMismatch, match="expected"):
            copy(root, lying, check=check)
    after = pooled(root).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert trees.problems(root) == []


def test_what_the_driver_knows_to_be_damaged_it_does_not_mount(driver: LocalExportDriver) -> None:
    trees.put(driver, A)
    root = driver._tree.storage.root
    damage(pooled(root), "flipped")
    assert driver.mount_layers(B.repository, [DESCRIBED], check=True) == frozenset()
    # Nothing is removed before there is something better.
    assert pooled(root).exists()
    assert blob(root, "ns/a").exists()
    assert driver.mount_layers(B.repository, [DESCRIBED]) == frozenset()
    driver.upload_layer(B.repository, [LAYER.content], expected=LAYER.digest)
    assert driver.mount_layers(A.repository, [DESCRIBED], check=True) == {LAYER.digest}
    assert blob(root, "ns/a").read_bytes() == LAYER.content


def test_a_failed_transfer_leaves_what_is_damaged(driver: LocalExportDriver) -> None:
    trees.put(driver, A)
    root = driver._tree.storage.root
    damage(pooled(root), "truncated")
    before = trees.served(root)
    with pytest.raises(errors.DigestMismatch):
        driver.upload_layer(
            A.repository, [LAYER.content[:-1] + b"x"], expected=LAYER.digest, size=DESCRIBED.size
        )
    assert trees.served(root) == before


def test_a_config_that_comes_with_its_manifest_heals(root: Path) -> None:
    fill(root)
    config = A.manifest.config
    assert config
    path = root / layout.pool_blob(config.digest)
    damage(path, "truncated")
    with LocalExportDriver(root) as driver:
        parsed = A.manifest
        driver.put_manifest(
            A.repository,
            parsed.content,
            parsed.media_type,
            tag=A.tag,
            config=A.blobs[config.digest],
        )
    assert path.read_bytes() == A.blobs[config.digest]
    assert trees.problems(root) == []


# -- what counts as damage


def failing_reads(monkeypatch: pytest.MonkeyPatch, number: int, path: str, times: int) -> list[int]:
    """The first ``times`` reads of a file end in an error; returns a list with what is left."""
    left, call = [times], Folders.call

    def failing(tree: Folders, what: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        def fail(*args: Any, **kwargs: Any) -> None:
            left[0] -= 1
            raise OSError(number, os.strerror(number))

        fails = function is os.read and str(what) == path and left[0]
        return call(tree, what, fail if fails else function, *args, **kwargs)

    monkeypatch.setattr(Folders, "call", failing)
    return left


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE])
def test_a_read_that_fails_once_is_tried_again(
    root: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root)
    left = failing_reads(monkeypatch, number, layout.pool_blob(LAYER.digest), 1)
    assert copy(root, A, check=True) == []
    assert left == [0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE])
def test_what_cannot_be_read_is_reported_and_stays(
    root: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root)
    before = pooled(root).stat().st_ino
    failing_reads(monkeypatch, number, layout.pool_blob(LAYER.digest), 99)
    with pytest.raises(errors.StorageError, match=os.strerror(number)):
        copy(root, A, check=True)
    assert pooled(root).stat().st_ino == before


def test_one_wrong_reading_is_no_damage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has its bits flipped, too."""
    fill(root)
    chunks, readings = Storage.chunks, iter([b"wrong"])

    def once_wrong(
        storage: Storage, path: PurePosixPath, limit: int | None = None
    ) -> Iterator[bytes]:
        yield next(readings, b"") if str(path) == layout.pool_blob(LAYER.digest) else b""
        yield from chunks(storage, path, limit)

    monkeypatch.setattr(Storage, "chunks", once_wrong)
    assert copy(root, A, check=True) == []
    assert list(readings) == []


def test_what_a_wrong_file_hashes_to_is_said(root: Path) -> None:
    fill(root)
    damage(pooled(root), "emptied")
    storage, read = Storage(root, PLACES), list[int]()
    path = PurePosixPath(layout.pool_blob(LAYER.digest))
    assert hashing.wrong_digest(storage, path, LAYER.digest, read.append) == Digest.of(b"")
    assert sum(read) == 0


# -- what is said


def test_the_error_says_which_blob_what_is_wrong_and_what_helps(root: Path) -> None:
    fill(root)
    damage(pooled(root), "truncated")
    with LocalExportDriver(root) as driver, pytest.raises(errors.BlobUnknown) as caught:
        driver.put_manifest(A.repository, A.manifest.content, A.manifest.media_type, tag=A.tag)
    text = str(caught.value)
    assert f"{LAYER.digest} has 1000 bytes instead of {len(LAYER.content)}" in text
    assert "--check-present" in text
    assert "verify --repair" in text
    assert "not in the repository" not in text
    assert str(pickle.loads(pickle.dumps(caught.value))) == text  # noqa: S301 - our own


def test_the_error_tells_missing_from_damaged() -> None:
    one, two = Digest.of(b"1"), Digest.of(b"2")
    assert str(errors.BlobUnknown([one, two], {two: (0, 7)})).startswith(
        f"blobs not in the repository: {one}; {two} has 0 bytes instead of 7"
    )


# -- beside others


def test_others_are_healed_one_lock_at_a_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root)
    damage(pooled(root), "truncated")
    held: list[str] = []
    most = [0]
    lock = Storage.lock

    def counting(storage: Storage, name: str) -> Any:
        return Counted(lock(storage, name), name)

    class Counted:
        def __init__(self, lock: Any, name: str) -> None:
            self._lock, self._name = lock, name

        def __enter__(self) -> Any:
            entered = self._lock.__enter__()
            held.append(self._name)
            most[0] = max(most[0], sum(name.startswith("repository") for name in held))
            return entered

        def __exit__(self, *args: Any) -> Any:
            held.remove(self._name)
            return self._lock.__exit__(*args)

    monkeypatch.setattr(Storage, "lock", counting)
    copy(root, C)
    assert most == [1]
    assert trees.problems(root) == []


def test_one_that_was_deleted_meanwhile_does_not_come_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(root)
    damage(pooled(root), "truncated")
    healed: Callable[..., bool] = type(LocalExportDriver(root)._pool).is_healed_by

    def deleted_meanwhile(pool: Any, replaced: Any, digest: Digest, repository: Any) -> bool:
        found = healed(pool, replaced, digest, repository)
        if repository.name == B.repository:
            with LocalExportDriver(root) as driver:
                driver.delete(ImageRef(B.repository, Tag("1.0")))
        return found

    monkeypatch.setattr(
        "image_uploader_plugins.local_export.pool.Pool.is_healed_by", deleted_meanwhile
    )
    copy(root, A)
    assert not (root / "v2/ns/b").exists()
    assert trees.problems(root) == []


def test_what_cannot_be_healed_elsewhere_does_not_fail_the_upload(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(root)
    damage(pooled(root), "truncated")
    folder = root / "v2/ns/b/blobs"
    folder.rename(root / "elsewhere")
    folder.symlink_to(root / "elsewhere")
    copy(root, A)
    assert pooled(root).read_bytes() == LAYER.content
    assert "ns/b" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("mends", ["upload", "repair"])
def test_who_was_not_reached_before_a_kill_is_healed_by_what_comes_next(
    root: Path, monkeypatch: pytest.MonkeyPatch, kind: str, mends: str
) -> None:
    fill(root)
    damage(pooled(root), kind)
    with monkeypatch.context() as patch:
        patch.setattr(Tree, "heal", lambda *_: None)
        copy(root, A, check=True)
    assert blob(root, "ns/b").read_bytes() != LAYER.content
    if mends == "upload":
        assert copy(root, B) == []
    else:
        verification = Verification(Tree(root))
        assert repair(verification, verification.report()).findings == ()
    assert blob(root, "ns/b").read_bytes() == LAYER.content
    assert trees.problems(root) == []
