# SPDX-License-Identifier: Apache-2.0
"""Folders of images, as skopeo and podman write them for sites without a registry."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.archives import open_archive
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import archives, programs
from tests.support.archives import IMAGE, LIST, ONE, TWO, bring, carry, fill
from tests.support.commands import Run
from tests.support.content import schema_1
from tests.support.registry import docker_registry

VERSION = b"Directory Transport Version: 1.1\n"


@pytest.fixture
def memory(tmp_path: Path) -> MemoryDriver:
    return MemoryDriver(str(tmp_path))


def image_folder(image: images.Image) -> archives.Files:
    """Write a folder as skopeo does to ``dir:``."""
    files = {"version": VERSION, "manifest.json": image.manifest.content}
    for part in image.walk():
        files |= {d.encoded: content for d, content in part.blobs.items()}
        if part is not image:
            files[f"{part.digest.encoded}.manifest.json"] = part.manifest.content
    return files


def tree(**folders: images.Image) -> archives.Files:
    """Write an archive of folders."""
    return {
        f"{folder}/{name}": content
        for folder, image in folders.items()
        for name, content in image_folder(image).items()
    }


# -- what tools write


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Folders as ``skopeo sync`` writes them, and the registry's address."""
    skopeo = programs.require("skopeo")
    folder = tmp_path_factory.mktemp("mirrored")
    carry(fill(folder / "image-serve", [IMAGE, LIST]), folder / "layout")
    (folder / "registry").mkdir()
    with docker_registry(folder / "registry") as address:
        for name in ("ns/img", "ns/list"):
            source = f"oci:{folder}/layout:{name}:1.0"
            target = f"docker://{address}/{name}:1.0"
            run(skopeo, "copy", "-q", "--all", "--dest-tls-verify=false", source, target)
        for name, options in (
            ("scoped", ["--all", "--scoped"]),
            ("plain", ["--all"]),
            ("single", ["--scoped"]),
        ):
            for image in ("ns/img:1.0", "ns/list:1.0", f"ns/list@{LIST.digest}"):
                sync = [skopeo, "sync", "--src-tls-verify=false", "--src=docker", "--dest=dir"]
                (folder / name).mkdir(exist_ok=True)
                run(*sync, *options, f"{address}/{image}", f"{folder}/{name}")
        yield folder, address


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_skopeo_syncs(mirrored: tuple[Path, str], memory: MemoryDriver) -> None:
    folder, address = mirrored
    assert bring(folder / "scoped", memory) == ["ns/img:1.0", "ns/list:1.0"]
    held = memory.repositories[LIST.repository]
    assert {LIST.digest, *(child.digest for child in LIST.children)} <= set(held.manifests)
    assert bring(folder / "scoped", memory, f"{address}/ns/img:1.0") == ["ns/img:1.0"]


def test_skopeo_syncs_without_the_namespaces(
    mirrored: tuple[Path, str], memory: MemoryDriver
) -> None:
    folder, _ = mirrored
    assert bring(folder / "plain", memory) == ["img:1.0", "list:1.0"]


def test_skopeo_syncs_one_platform_under_the_digest_of_all(
    mirrored: tuple[Path, str], memory: MemoryDriver
) -> None:
    """The folder's name has the digest of the index, which is not that of the manifest in it."""
    folder, address = mirrored
    refused = rf"'{address}/ns/list@{LIST.digest}' is another manifest, sha256:\w+ .*--all"
    with pytest.raises(errors.ArchiveInvalid, match=refused):
        bring(folder / "single", memory)
    assert bring(folder / "single", memory, "ns/*:1.0") == ["ns/img:1.0", "ns/list:1.0"]


@pytest.mark.parametrize("start", [".", "scoped"])
def test_the_same_in_a_tar(
    mirrored: tuple[Path, str], memory: MemoryDriver, tmp_path: Path, start: str
) -> None:
    """Members of the tar may begin with a folder's name before the host."""
    folder = mirrored[0] if start == "scoped" else mirrored[0] / "scoped"
    run(programs.require("tar"), "-C", str(folder), "-czf", f"{tmp_path}/x.tar.gz", start)
    assert bring(tmp_path / "x.tar.gz", memory) == ["ns/img:1.0", "ns/list:1.0"]


def test_one_image_of_them(mirrored: tuple[Path, str], memory: MemoryDriver) -> None:
    folder, _ = mirrored
    assert bring(folder / "plain/img:1.0", memory) == ["img:1.0"]
    assert bring(folder / "plain/img:1.0", memory, name="ns/other:2.0") == ["ns/other:2.0"]


@pytest.mark.parametrize("image", [IMAGE, LIST], ids=["image", "list"])
def test_skopeo_copies(memory: MemoryDriver, tmp_path: Path, image: images.Image) -> None:
    skopeo = programs.require("skopeo")
    carry(fill(tmp_path / "image-serve", [image]), tmp_path / "layout")
    source = f"oci:{tmp_path}/layout:{image.repository}:1.0"
    run(skopeo, "copy", "-q", "--all", source, f"dir:{tmp_path}/copy")
    assert bring(tmp_path / "copy", memory, name="ns/copy:1.0") == ["ns/copy:1.0"]
    with pytest.raises(errors.ArchiveInvalid, match="has no full name: --as"):
        bring(tmp_path / "copy", memory)


# -- what is in them


def test_signatures_are_left_out_and_told(root: Path, tmp_path: Path, run: Run) -> None:
    files = tree(**{"quay.io/ns/img:1.0": IMAGE})
    files["quay.io/ns/img:1.0/signature-1"] = b"simple signing"
    archives.folder(tmp_path / "x", files)
    status, output = run("import", str(tmp_path / "x")).both
    assert status == 0
    assert "quay.io/ns/img:1.0: simple signing's signatures (signature-1) are left out" in output
    assert not list(root.rglob("signature*"))


def test_schema_1_is_named_and_left_out(memory: MemoryDriver, tmp_path: Path) -> None:
    archives.folder(tmp_path / "x", tree(**{"a:1": IMAGE, "old:1": schema_1()}))
    with contextlib.closing(open_archive(tmp_path / "x")) as archive:
        assert [str(entry) for entry in archive.entries] == ["a:1"]
        assert [text.partition(" is of type")[0] for text in archive.skipped] == ["old:1"]


def test_hub_names_of_folders(memory: MemoryDriver, tmp_path: Path) -> None:
    """Names are Docker Hub's only where the host says so: skopeo leaves it out without --scoped."""
    folders = {"docker.io/library/a:1": IMAGE, "docker.io/b:1": IMAGE, "c:1": IMAGE}
    archives.folder(tmp_path / "x", tree(**folders))
    assert set(bring(tmp_path / "x", memory)) == {"c:1", "library/b:1", "library/a:1"}


def test_sha512(memory: MemoryDriver, tmp_path: Path) -> None:
    layer = json.loads(IMAGE.manifest.content)["layers"][0]
    digest = Digest.of(ONE.content, "sha512")
    image = images.image(
        "ns/img", "1.0", [ONE], oci=True, layers=[{**layer, "digest": str(digest)}]
    )
    files = image_folder(image)
    files[f"sha512-{digest.encoded}"] = files.pop(ONE.digest.encoded)
    archives.folder(tmp_path / "a:1", files)
    assert bring(tmp_path / "a:1", memory) == ["a:1"]


def test_the_same_content_in_several_folders(memory: MemoryDriver, tmp_path: Path) -> None:
    archives.folder(tmp_path / "x", tree(**{"a:1": IMAGE, "b:1": IMAGE, "n/c:1": LIST}))
    assert bring(tmp_path / "x", memory) == ["a:1", "b:1", "n/c:1"]


# -- what is wrong with them

BLOB = f"a:1/{TWO.digest.encoded}"
GOOD = tree(**{"a:1": IMAGE})


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        ({**GOOD, BLOB: TWO.content[:-1]}, "bytes, expected"),
        ({**GOOD, BLOB: bytes(len(TWO.content))}, "content hashes to"),
        ({n: c for n, c in GOOD.items() if n != BLOB}, "neither in the archive nor"),
        ({**GOOD, "a:1/manifest.json": b"{"}, "'a:1/manifest.json': manifest is not JSON"),
        ({**GOOD, "a:1/version": b"Directory Transport Version: 2.0"}, "2.0', 1.1 is known"),
        ({**GOOD, "a:1/version": bytes(5000)}, "has 5000 bytes, the limit is 4096"),
        ({n: c for n, c in GOOD.items() if "version" not in n}, "is neither an OCI layout"),
        ({**GOOD, "b:1/version": VERSION}, "'b:1/manifest.json' is missing"),
        (tree(**{"A:1": IMAGE}), "not a repository name: 'A'"),
        (tree(**{"quay.io/a:1": IMAGE, "docker.example/a:1": LIST}), "two images would be a:1"),
        (tree(**{"a": IMAGE}), "'a' has no full name"),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_refused(
    memory: MemoryDriver, tmp_path: Path, kind: str, files: archives.Files, refused: str
) -> None:
    make = archives.folder if kind == "folder" else archives.tar
    make(tmp_path / "x", files)
    with pytest.raises(errors.UploaderError, match=refused):
        bring(tmp_path / "x", memory)
    assert not any(held.manifests for held in memory.repositories.values())
