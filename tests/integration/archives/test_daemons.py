# SPDX-License-Identifier: Apache-2.0
"""What docker and containerd save, and podman and buildah as folders."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.integration.archives.test_clients import tag
from tests.support import archives, programs, trees
from tests.support.archives import bring, carry, fill
from tests.support.clients import Run

pytestmark = pytest.mark.slow

PLAIN = [images.layer({"file": text * 3000}, plain=True) for text in (b"one", b"two")]
# Two images that share a layer, as most do.
ONE = images.image("x", None, PLAIN)
TWO = images.image("x", None, PLAIN[:1])
IMAGE = images.image("ns/img", "1.0", [images.layer({"f": b"1"}, oci=True)], oci=True)
ID = str(IMAGE.manifest.config and IMAGE.manifest.config.digest)
IMAGE_NAMES = [f"registry.k8s.io/ns/img{end}" for end in (":1.0", f"@{IMAGE.digest}")] + [ID]
LIST_NAMES = ["docker.io/library/list:1.0"]
LIST = images.index(
    "ns/list",
    "1.0",
    [
        images.image("ns/list", None, [layer], oci=True, architecture=architecture)
        for layer, architecture in (
            (images.layer({"file": b"amd64"}, oci=True), "amd64"),
            (images.layer({"file": b"arm64"}, oci=True), "arm64"),
        )
    ],
    oci=True,
)


def docker_save(path: Path, image: Image, name: str) -> Path:
    layers = {f"l{number}": blob.content for number, blob in enumerate(PLAIN)}
    kept = dict(list(layers.items())[: len(image.manifest.layers)])
    return archives.tar(path, archives.docker_archive(image, [name], kept))


@pytest.fixture
def loaded(docker: Run, tmp_path: Path) -> Callable[..., Path]:
    """The names of two images that docker has, one of them from Docker Hub."""
    docker("load", "--input", docker_save(tmp_path / "one", ONE, "nginx:1"))
    docker("load", "--input", docker_save(tmp_path / "two", TWO, "quay.io/ns/img:2"))

    def save(*names: str) -> Path:
        docker("save", "--output", tmp_path / "saved", *names)
        return tmp_path / "saved"

    return save


def layers_of(root: Path, name: str, label: str) -> list[str]:
    return [str(layer.digest) for layer in tag(root, name, label).layers]


def test_docker_saves(loaded: Callable[..., Path], driver: LocalExportDriver, root: Path) -> None:
    """Two images in one archive, in which the layer that both have is a link."""
    names = bring(loaded("nginx:1", "quay.io/ns/img:2"), driver)
    assert sorted(names) == ["library/nginx:1", "ns/img:2"]  # docker's order is by chance
    expected = [str(blob.digest) for blob in PLAIN]
    assert layers_of(root, "library/nginx", "1") == expected
    assert layers_of(root, "ns/img", "2") == expected[:1]
    assert not trees.problems(root)


def test_docker_saves_an_id(loaded: Callable[..., Path], driver: LocalExportDriver) -> None:
    config = ONE.manifest.config
    assert config
    path = loaded(config.digest.encoded)
    with pytest.raises(errors.ArchiveInvalid, match="has no full name: --as REPOSITORY:TAG"):
        bring(path, driver)
    assert bring(path, driver, name="ns/named:1") == ["ns/named:1"]


@pytest.mark.parametrize("method", [["cat"], ["gzip", "-c"], ["zstd", "-qc"], ["xz", "-c"]])
def test_docker_saves_into_a_pipe(
    loaded: Callable[..., Path], driver: LocalExportDriver, tmp_path: Path, method: list[str]
) -> None:
    programs.require(method[0], {"xz": "xz-utils"}.get(method[0]))
    os.mkfifo(tmp_path / "pipe")
    script = '"$@" < "$SAVED" > "$PIPE"'
    places = {"SAVED": str(loaded("nginx:1")), "PIPE": str(tmp_path / "pipe")}
    command = ["sh", "-c", script, "sh", *method]
    with subprocess.Popen(command, env={**os.environ, **places}):
        assert bring(tmp_path / "pipe", driver) == ["library/nginx:1"]


# -- containerd


@pytest.fixture
def exported(ctr: Run, tmp_path: Path) -> Callable[..., Path]:
    """Images in containerd, under the names that Kubernetes gives them."""
    carry(fill(tmp_path / "tree", [IMAGE, LIST]), tmp_path / "layout.tar")
    ctr("images", "import", "--all-platforms", "--digests", tmp_path / "layout.tar")
    held = {line.split()[2]: line.split()[0] for line in ctr("images", "ls").splitlines()[1:]}
    for image, names in ((IMAGE, IMAGE_NAMES), (LIST, LIST_NAMES)):
        for name in names:
            ctr("images", "tag", "--force", held[str(image.digest)], name)

    def export(*names: str, platforms: str = "--all-platforms") -> Path:
        ctr("images", "export", platforms, tmp_path / "x.tar", *names)
        return tmp_path / "x.tar"

    return export


def test_containerd_exports(
    exported: Callable[..., Path], driver: LocalExportDriver, root: Path
) -> None:
    path = exported(*IMAGE_NAMES, *LIST_NAMES)
    assert bring(path, driver) == ["ns/img:1.0", "library/list:1.0"]
    assert tag(root, "ns/img", "1.0").digest == IMAGE.digest
    assert tag(root, "library/list", "1.0").digest == LIST.digest


def test_containerd_exports_by_digest(
    exported: Callable[..., Path], driver: LocalExportDriver, root: Path
) -> None:
    """An image that containerd knows by digest stays, though it has no tag."""
    assert bring(exported(IMAGE_NAMES[1]), driver) == [f"ns/img@{IMAGE.digest}"]
    assert not trees.problems(root)
    with contextlib.closing(Tree(root)) as tree:
        assert tree.repository(IMAGE.repository).pins() == {IMAGE.digest}


def test_containerd_exports_an_id(exported: Callable[..., Path], driver: LocalExportDriver) -> None:
    with pytest.raises(errors.ArchiveInvalid, match=f"'{IMAGE.digest}' has no full name: --as"):
        bring(exported(IMAGE_NAMES[2]), driver)


def test_containerd_exports_one_platform(
    exported: Callable[..., Path], driver: LocalExportDriver
) -> None:
    path = exported(LIST_NAMES[0], platforms="--platform=linux/arm64")
    with pytest.raises(errors.ImageUnknown, match=f"lacks {LIST.children[0].digest} of an index"):
        bring(path, driver)
    assert bring(path, driver, sparse=True) == ["library/list:1.0"]


# -- podman and buildah


@pytest.mark.parametrize("kind", ["docker-dir", "docker-archive", "oci-archive", "oci-dir"])
def test_podman_saves(
    podman: Run,
    driver: LocalExportDriver,
    root: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    name = "docker.io/library/nginx:1"
    podman("load", "-q", "-i", str(docker_save(tmp_path / "one", ONE, name)))
    podman("save", "-q", "--format", kind, "-o", f"{tmp_path}/saved", name)
    named = "library/nginx:1" if kind == "docker-dir" else None
    assert bring(tmp_path / "saved", driver, name=named) == ["library/nginx:1"]
    config = tag(root, "library/nginx", "1").config
    assert config
    assert config.media_type.startswith("application/vnd.")
    assert not trees.problems(root)


def test_buildah_pushes_to_folders(driver: LocalExportDriver, root: Path, tmp_path: Path) -> None:
    buildah = programs.require("buildah")
    environment = {**os.environ, "CONTAINERS_STORAGE_CONF": str(storage(tmp_path / "storage"))}

    def run(*arguments: str) -> str:
        command = [buildah, *arguments]
        return subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        ).stdout.strip()

    container = run("from", "scratch")
    image = run("commit", "-q", container, "localhost/ns/built:1.0")
    run("push", "-q", image, f"dir:{tmp_path}/built:1.0")
    run("push", "-q", image, f"oci-archive:{tmp_path}/x.tar:ns/built:1.0")
    assert bring(tmp_path / "built:1.0", driver) == ["built:1.0"]
    assert bring(tmp_path / "x.tar", driver) == ["ns/built:1.0"]
    assert tag(root, "built", "1.0").digest == tag(root, "ns/built", "1.0").digest


def storage(folder: Path) -> Path:
    folder.mkdir()
    config = folder / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
    )
    return config
