# SPDX-License-Identifier: Apache-2.0
"""What other tools write, and what they read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.testing import images
from tests.support import programs, trees
from tests.support.archives import IMAGE, LIST, bring, carry, fill

Run = Callable[..., str]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout of our own, for others to read."""
    folder = tmp_path_factory.mktemp("exported")
    carry(fill(folder / "image-serve", [IMAGE, LIST]), folder / "layout")
    carry(folder / "image-serve", folder / "layout.tar")
    return folder


@pytest.fixture(scope="module")
def skopeo() -> Run:
    program = programs.require("skopeo")

    def run(*arguments: str) -> str:
        return subprocess.run(
            [program, *arguments], check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    return run


def tag(root: Path, name: str, tag: str) -> Manifest:
    return Manifest.parse((root / f"v2/{name}/.tags/{tag}/index.json").read_bytes())


# -- what skopeo writes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["oci", "oci-archive"])
@pytest.mark.parametrize("image", [IMAGE, LIST], ids=["image", "list"])
def test_skopeo_writes_layouts(
    skopeo: Run, exported: Path, root: Path, tmp_path: Path, kind: str, image: images.Image
) -> None:
    source = f"oci:{exported}/layout:{image.repository}:{image.tag}"
    skopeo("copy", "-q", "--all", source, f"{kind}:{tmp_path}/other:quay.io/{image.repository}:2.0")
    with LocalExportDriver(root) as driver:
        assert bring(tmp_path / "other", driver) == [f"{image.repository}:2.0"]
    assert tag(root, str(image.repository), "2.0").digest == image.digest
    assert not trees.problems(root)


def test_skopeo_writes_just_a_tag(skopeo: Run, exported: Path, root: Path, tmp_path: Path) -> None:
    skopeo("copy", "-q", f"oci:{exported}/layout:ns/img:1.0", f"oci:{tmp_path}/other:3.0")
    skopeo("copy", "-q", f"oci:{exported}/layout:ns/img:1.0", f"oci:{tmp_path}/other:4.0")
    with LocalExportDriver(root) as driver:
        assert bring(tmp_path / "other", driver, name="my/name") == ["my/name:3.0", "my/name:4.0"]


def test_skopeo_writes_for_docker(skopeo: Run, exported: Path, root: Path, tmp_path: Path) -> None:
    source = f"oci:{exported}/layout:ns/img:1.0"
    skopeo("copy", "-q", source, f"docker-archive:{tmp_path}/d.tar:quay.io/ns/img:2.0")
    with LocalExportDriver(root) as driver:
        assert bring(tmp_path / "d.tar", driver) == ["ns/img:2.0"]
    found = tag(root, "ns/img", "2.0")
    assert (found.media_type, found.config and found.config.digest) == (
        media_types.DOCKER_MANIFEST,
        IMAGE.manifest.config and IMAGE.manifest.config.digest,
    )
    config = json.loads(next(c for d, c in IMAGE.blobs.items() if c.startswith(b"{")))
    assert [str(layer.digest) for layer in found.layers] == config["rootfs"]["diff_ids"]


# -- what skopeo reads


@pytest.mark.parametrize("place", ["oci:{}/layout", "oci-archive:{}/layout.tar"])
@pytest.mark.parametrize("image", [IMAGE, LIST], ids=["image", "list"])
def test_skopeo_reads(skopeo: Run, exported: Path, place: str, image: images.Image) -> None:
    source = place.format(exported) + f":{image.repository}:{image.tag}"
    assert Digest.of(skopeo("inspect", "--raw", source).encode()) == image.digest


def test_skopeo_copies_all_of_it(skopeo: Run, exported: Path, tmp_path: Path) -> None:
    skopeo("copy", "-q", "--all", f"oci:{exported}/layout:ns/list:1.0", f"dir:{tmp_path}/copy")
    assert Digest.of((tmp_path / "copy/manifest.json").read_bytes()) == LIST.digest


# -- podman


@pytest.mark.slow
def test_podman_loads_and_saves(podman: Run, exported: Path, root: Path, tmp_path: Path) -> None:
    """After podman has loaded and saved an image, its layers unpack to the same content."""
    single = tmp_path / "single.tar"
    carry(exported / "image-serve", single, "ns/img")
    assert "ns/img:1.0" in podman("load", "-q", "-i", str(single))
    name = "localhost/ns/img:1.0"
    for kind in ("docker-archive", "oci-archive", "oci-dir"):
        podman("save", "-q", "--format", kind, "-o", f"{tmp_path}/{kind}", name)
    podman("tag", name, "localhost/ns/other:1.0")
    podman("save", "-q", "-o", f"{tmp_path}/two", name, "localhost/ns/other:1.0")
    configs = set()
    with LocalExportDriver(root) as driver:
        for kind in ("docker-archive", "oci-archive", "oci-dir"):
            names = bring(tmp_path / kind, driver)
            assert names == ["ns/img:1.0"], kind
            configs.add(tag(root, "ns/img", "1.0").config)
        assert set(bring(tmp_path / "two", driver)) == {"ns/img:1.0", "ns/other:1.0"}
    assert {c.digest for c in configs if c} == {d for d, c in IMAGE.blobs.items() if c[:1] == b"{"}
    assert not trees.problems(root)


# -- tar


@pytest.mark.slow
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
@pytest.mark.parametrize("how", ["-cf", "-czf"])
def test_tar_packs_a_layout(
    exported: Path, root: Path, tmp_path: Path, form: str, how: str
) -> None:
    """tar packs a layout that is a directory into a file."""
    command = [programs.require("tar"), f"--format={form}", "-C", f"{exported}/layout"]
    subprocess.run([*command, how, f"{tmp_path}/packed", "."], check=True)
    with LocalExportDriver(root) as driver:
        assert bring(tmp_path / "packed", driver) == ["ns/img:1.0", "ns/list:1.0"]


def test_tar_unpacks_an_export(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "unpacked").mkdir()
    command = [programs.require("tar"), "-C", f"{tmp_path}/unpacked", "-xf"]
    subprocess.run([*command, f"{exported}/layout.tar"], check=True)
    subprocess.run(["diff", "-r", f"{tmp_path}/unpacked", f"{exported}/layout"], check=True)
