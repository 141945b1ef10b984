# SPDX-License-Identifier: Apache-2.0
"""Trees that tripleo-common wrote: read, extended and deleted from."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from tests.support import legacy, trees

NAME = RepositoryName("ns/img")


def one(text: str = "one", tag: str = "1.0") -> images.Image:
    return images.image("ns/img", tag, [images.layer({"file": text.encode()})])


@pytest.fixture
def symlinked(root: Path) -> images.Image:
    """A repository of 2019: the tag is a symbolic link."""
    image = one("old", "old")
    legacy.write_blobs(root, image)
    legacy.write_manifest(root, image)
    legacy.write_symlink_tag(root, image, "old")
    legacy.write_lists(root, {"ns/img": ["old"]})
    return image


def test_a_legacy_tag_is_migrated_on_the_first_write(root: Path, symlinked: images.Image) -> None:
    trees.put_in(root, one())
    assert trees.tags(root, "ns/img") == ["1.0", "old"]
    assert not (root / "v2/ns/img/manifests/old").is_symlink()
    text = (root / "v2/ns/img/manifests/old.type-map").read_text()
    assert text == (
        f"URI: old\n\nContent-Type: {media_types.DOCKER_MANIFEST}\n"
        f"URI: {symlinked.digest}/index.json\n\n"
    )
    assert trees.problems(root) == []


def test_a_legacy_tag_can_be_put_again(root: Path, symlinked: images.Image) -> None:
    trees.put_in(root, one("new", "old"))
    assert trees.tags(root, "ns/img") == ["old"]
    assert trees.problems(root) == []


def test_a_legacy_tag_can_be_deleted(root: Path, symlinked: images.Image) -> None:
    deletion = LocalExportDriver(root).delete(ImageRef(NAME, Tag("old")))
    assert deletion.manifests == (symlinked.digest,)
    assert set(deletion.blobs) == set(symlinked.blobs)
    assert deletion.bytes_freed == len(symlinked.manifest.content) + sum(
        map(len, symlinked.blobs.values())
    )
    assert trees.catalog(root) == []
    assert not (root / "v2/ns").exists()


def test_legacy_blobs_are_mounted_and_not_fetched_again(
    root: Path, symlinked: images.Image
) -> None:
    driver = LocalExportDriver(root)
    other = RepositoryName("other")
    layers = list(symlinked.manifest.blobs())
    digests = set(symlinked.blobs)
    assert driver.mount_layers(other, layers, dict.fromkeys(digests, NAME)) == digests
    for path in (root / "v2/other/blobs").iterdir():
        assert path.samefile(root / "v2/ns/img/blobs" / path.name)
    assert driver.mount_layers(NAME, layers) == digests


def test_a_list_of_todays_host_gets_its_order(root: Path) -> None:
    index = images.corpus()[-2]
    legacy.write_image(root, index, "1.0")
    driver = LocalExportDriver(root)
    trees.put(driver, images.image("multi/docker", "new", []))
    text = (root / "v2/multi/docker/manifests/1.0.type-map").read_text()
    assert f"{media_types.DOCKER_LIST}; qs=1.0\nURI: {index.digest}/" in text
    assert f"{media_types.DOCKER_MANIFEST}; qs=0.5\nURI: {index.children[0].digest}/" in text
    assert trees.problems(root) == []
    deletion = driver.delete(ImageRef(index.repository, Tag("1.0")))
    assert set(deletion.manifests) == {index.digest, *(c.digest for c in index.children)}
    assert trees.problems(root) == []


def test_a_damaged_legacy_tag_stops_nobody(root: Path, symlinked: images.Image) -> None:
    (root / "v2/ns/img/manifests" / str(symlinked.digest) / "index.json").write_text("{")
    trees.put_in(root, one())
    assert trees.tags(root, "ns/img") == ["1.0", "old"]
    assert (root / "v2/ns/img/manifests/old").is_symlink()


def test_a_zstd_layer_called_gz_is_found(root: Path) -> None:
    blob = b"\x28\xb5\x2f\xfd not gzip"
    image = images.image("ns/img", "1.0", [images.Blob(blob, media_types.DOCKER_LAYER_GZIP)])
    legacy.write_image(root, image, "1.0")
    driver = LocalExportDriver(root)
    other = RepositoryName("other")
    assert driver.mount_layers(other, image.manifest.blobs(), dict.fromkeys(image.blobs, NAME))
    blobs = {path.name for path in (root / "v2/other/blobs").iterdir()}
    assert blobs == {str(digest) for digest in image.blobs}
    assert driver.mount_layers(NAME, image.manifest.blobs()) == set(image.blobs)
