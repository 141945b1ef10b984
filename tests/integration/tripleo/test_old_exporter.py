# SPDX-License-Identifier: Apache-2.0
"""tripleo-common's own exporter at work on a tree of ours, and we on what it leaves."""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import urlparse

import pytest
from tripleo_common.image import image_export

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image, corpus
from tests.support import trees


@pytest.fixture(autouse=True)
def exporter(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_export, "IMAGE_EXPORT_DIR", str(root))


def url(image: Image, tag: str) -> object:
    return urlparse(f"docker://192.0.2.1:8787/{image.repository}:{tag}")


def export(image: Image, tag: str) -> None:
    """As tripleo-common does: layers, then config and manifest."""
    assert image.manifest.config
    for layer in image.manifest.layers:
        entry = {"digest": str(layer.digest)}
        image_export.export_stream(url(image, tag), entry, iter([image.blobs[layer.digest]]))
    image_export.export_manifest_config(
        url(image, tag),
        image.manifest.content.decode(),
        image.manifest.media_type,
        image.blobs[image.manifest.config.digest].decode(),
    )


def whole(root: Path, image: Image) -> bool:
    """Whether every part of the image is where a server finds it by digest."""
    top = root / "v2" / image.repository.value
    return all(
        (top / "manifests" / str(part.digest) / "index.json").read_bytes() == part.manifest.content
        and all(list(top.glob(f"blobs/{digest}*")) for digest in part.blobs)
        for part in image.walk()
    )


@pytest.mark.slow
def test_it_adds_beside_ours_and_we_go_on(driver: LocalExportDriver, root: Path) -> None:
    for image in corpus():
        trees.put(driver, image)
    theirs = images.image("base", "2.0", [images.layer({"new": b"new"})])
    export(theirs, "2.0")
    assert all(whole(root, image) for image in [*corpus(), theirs])
    # Our next write to the repository brings every view of it in order.
    ours = images.image("base", "3.0", [images.layer({"newer": b"newer"})])
    trees.put(driver, ours)
    assert trees.tags(root, "base") == ["1.0", "2.0", "3.0"]
    assert (root / "v2/base/.tags/2.0").resolve().name == str(theirs.digest)
    assert not trees.problems(root)


@pytest.mark.slow
def test_its_delete_spares_what_is_ours(driver: LocalExportDriver, root: Path) -> None:
    """It removes each directory of manifests that no type map names."""
    for image in corpus():
        trees.put(driver, image)
    for image in corpus():
        other = images.image(image.repository.value, "9.9", [images.layer({"x": b"x"})])
        export(other, "9.9")
        # Defect 19: beside a list it removes manifests, and dies before it comes to the blobs.
        beside_a_list = pytest.raises(TypeError) if image.children else contextlib.nullcontext()
        with beside_a_list:
            image_export.delete_image(url(other, "9.9"))
    for image in corpus():
        assert whole(root, image), image.repository
        trees.put(driver, image)
    assert not trees.problems(root)
    assert trees.catalog(root) == sorted(image.repository.value for image in corpus())


def test_we_delete_what_it_wrote(driver: LocalExportDriver, root: Path) -> None:
    image = corpus()[0]
    export(image, "1.0")
    deletion = driver.delete(ImageRef(image.repository, Tag("1.0")))
    assert set(deletion.blobs) == set(image.blobs)
    assert trees.catalog(root) == []
    assert not (root / "v2" / image.repository.value).exists()
