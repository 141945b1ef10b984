# SPDX-License-Identifier: Apache-2.0
"""Archives that look complete: layers that are missing, elsewhere, or called something else."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.archives import archive
from image_uploader_plugins.archives import budget as budgets
from image_uploader_plugins.archives import docker_archive as docker_archives
from image_uploader_plugins.archives.importing import importer
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import archives, content, trees
from tests.support.archives import bring
from tests.support.commands import Run

PLAIN = [images.layer({"file": text}, oci=True, plain=True) for text in (b"one", b"two")]
IMAGE = images.image("ns/img", "1.0", PLAIN, oci=True)
CONTAINERD = "io.containerd.image.name"


@pytest.fixture
def memory(tmp_path: Path) -> MemoryDriver:
    return MemoryDriver(str(tmp_path))


def changed(image: Image, **fields: Any) -> tuple[dict[str, Any], archives.Files]:
    """Return an entry for the image's manifest with other ``fields``, and its blobs."""
    manifest = json.dumps({**json.loads(image.manifest.content), **fields}).encode()
    digest = Digest.of(manifest)
    entry = {
        "mediaType": media_types.OCI_MANIFEST,
        "digest": digest.value,
        "size": len(manifest),
        "annotations": {CONTAINERD: "docker.io/ns/img:1.0"},
    }
    return entry, {f"blobs/sha256/{digest.encoded}": manifest, **archives.blobs([image])}


def docker_25(image: Image = IMAGE, **fields: Any) -> archives.Files:
    """Both kinds in one archive, the layout without layers, as of a pre-release (moby 47065)."""
    entry, blobs = changed(image, layers=None)
    config = image.manifest.config
    assert config
    listed = {
        "Config": f"blobs/sha256/{config.digest.encoded}",
        "RepoTags": ["ns/img:1.0"],
        "Layers": [f"blobs/sha256/{layer.digest.encoded}" for layer in image.manifest.layers],
        **fields,
    }
    return {**archives.layout([entry], blobs), "manifest.json": json.dumps([listed]).encode()}


# -- missing


@pytest.mark.slow
def test_layers_that_only_the_list_beside_a_layout_knows(
    root: Path, tmp_path: Path, run: Run
) -> None:
    archives.tar(tmp_path / "x", docker_25())
    status, output = run("import", str(tmp_path / "x")).both
    assert status == 0, output
    assert "the manifest lists 0 layers, and its config names 2: taken from manifest.json" in output
    status, output = run("show", "ns/img:1.0", "-f", "json").both
    assert [layer["digest"] for layer in json.loads(output)["layers"]] == [
        str(layer.digest) for layer in PLAIN
    ]
    assert not trees.problems(root)


def test_layers_that_nobody_knows(memory: MemoryDriver, tmp_path: Path) -> None:
    archives.tar(tmp_path / "x", docker_25(Layers=None))
    with pytest.raises(
        errors.ArchiveInvalid, match="image 1: lists 0 layers, and its config names 2"
    ):
        bring(tmp_path / "x", memory)


def test_a_damaged_manifest_is_no_reason_to_take_the_list(
    memory: MemoryDriver, tmp_path: Path
) -> None:
    files = docker_25()
    damaged = {n: c.replace(b"null", b"[]  ") if b"null" in c else c for n, c in files.items()}
    archives.tar(tmp_path / "x", damaged)
    with pytest.raises(errors.ArchiveInvalid, match="content hashes to"):
        bring(tmp_path / "x", memory)


def first(image: Image) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = json.loads(image.manifest.content)["layers"]
    return layers[:1]


@pytest.mark.parametrize(
    ("layers", "count"),
    [(None, 0), ([], 0), (first(IMAGE), 1), (first(IMAGE) * 3, 3)],
    ids=["none", "empty", "one", "three"],
)
def test_layers_and_config_disagree(
    memory: MemoryDriver, tmp_path: Path, layers: object, count: int
) -> None:
    entry, blobs = changed(IMAGE, layers=layers)
    archives.tar(tmp_path / "x", archives.layout([entry], blobs))
    refused = rf"image {entry['digest']}: the manifest lists {count} layers, and its config names 2"
    with pytest.raises(errors.ArchiveInvalid, match=refused):
        bring(tmp_path / "x", memory)
    assert not memory.repositories


def test_layers_of_a_child_and_its_config_disagree(memory: MemoryDriver, tmp_path: Path) -> None:
    entry, blobs = changed(IMAGE, layers=[])
    del entry["annotations"]
    index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    digest = Digest.of(index)
    listed = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest.value,
        "size": len(index),
        "annotations": {CONTAINERD: "docker.io/ns/img:1.0"},
    }
    blobs[f"blobs/sha256/{digest.encoded}"] = index
    archives.tar(tmp_path / "x", archives.layout([listed], blobs))
    with pytest.raises(errors.ArchiveInvalid, match="lists 0 layers, and its config names 2"):
        bring(tmp_path / "x", memory)


@pytest.mark.parametrize(
    "fields",
    [
        {"artifactType": "application/vnd.example"},
        {"layers": [{**first(IMAGE)[0], "mediaType": "application/vnd.in-toto+json"}]},
        {"config": {**json.loads(IMAGE.manifest.content)["config"], "mediaType": "text/plain"}},
    ],
    ids=["artifact type", "layers of another type", "config of another type"],
)
def test_artifacts_have_configs_of_their_own(
    memory: MemoryDriver, tmp_path: Path, fields: dict[str, Any]
) -> None:
    entry, blobs = changed(IMAGE, **{"layers": first(IMAGE), **fields})
    archives.tar(tmp_path / "x", archives.layout([entry], blobs))
    assert bring(tmp_path / "x", memory) == ["ns/img:1.0"]


@pytest.mark.parametrize("config", [b"{}", b"no JSON", b'{"rootfs": 1}', b'{"a": 1, "a": 2}'])
def test_a_config_that_says_nothing_of_layers(
    memory: MemoryDriver, tmp_path: Path, config: bytes
) -> None:
    described = json.loads(IMAGE.manifest.content)["config"]
    digest = Digest.of(config)
    described = {**described, "digest": digest.value, "size": len(config)}
    entry, blobs = changed(IMAGE, config=described)
    blobs[f"blobs/sha256/{digest.encoded}"] = config
    archives.tar(tmp_path / "x", archives.layout([entry], blobs))
    assert bring(tmp_path / "x", memory) == ["ns/img:1.0"]


def test_a_damaged_config_is_called_damaged(memory: MemoryDriver, tmp_path: Path) -> None:
    """The error is about the config, not about an image that disagrees with it."""
    config = IMAGE.manifest.config
    assert config
    files = archives.layout([archives.entry(IMAGE, "ns/img:1.0")], archives.blobs([IMAGE]))
    place = f"blobs/sha256/{config.digest.encoded}"
    fields = json.loads(files[place])
    fields["rootfs"]["diff_ids"].pop()
    files[place] = json.dumps(fields).encode().ljust(len(files[place]))
    archives.tar(tmp_path / "x", files)
    with pytest.raises(errors.ArchiveInvalid, match=f"config {config.digest}: content hashes to"):
        bring(tmp_path / "x", memory)


# -- elsewhere


def test_layers_that_are_elsewhere_are_told(root: Path, tmp_path: Path, run: Run) -> None:
    image = content.elsewhere()
    files = archives.layout([archives.entry(image, "ns/img:1.0")], archives.blobs([image]))
    archives.tar(tmp_path / "x", files)
    status, output = run("import", str(tmp_path / "x")).both
    assert status == 0
    assert (
        f"ns/img@{image.digest}: 1 of 2 layers are not imported: "
        "clients get them from the URLs in the manifest"
    ) in output


# -- compressed otherwise


@pytest.mark.parametrize(
    ("name", "compress"), [("zstd", zstd.compress), ("xz", lzma.compress)], ids=["zstd", "xz"]
)
def test_docker_has_no_type_for_it(
    memory: MemoryDriver, tmp_path: Path, name: str, compress: Any
) -> None:
    image = images.image("ns/img", "1.0", PLAIN[:1])
    packed = {"one": compress(PLAIN[0].content)}
    archives.tar(tmp_path / "x", archives.docker_archive(image, ["ns/img:1.0"], packed))
    refused = f"'one/layer.tar' is compressed with {name}, for which a Docker manifest has no type"
    with pytest.raises(errors.ArchiveInvalid, match=refused):
        bring(tmp_path / "x", memory)


@pytest.mark.parametrize(
    ("name", "compress"), [("zstd", zstd.compress), ("gzip", gzip.compress)], ids=["zstd", "gzip"]
)
def test_a_blob_that_was_compressed_in_its_place(
    memory: MemoryDriver, tmp_path: Path, name: str, compress: Any
) -> None:
    packed = compress(PLAIN[0].content)
    size = len(packed)
    layers = [{**layer, "size": size} for layer in first(IMAGE)]
    image = images.image("ns/img", "1.0", PLAIN[:1], oci=True, layers=layers)
    blobs = archives.blobs([image])
    blobs[f"blobs/sha256/{PLAIN[0].digest.encoded}"] = packed
    entry = archives.entry(image, "ns/img:1.0")
    archives.tar(tmp_path / "x", archives.layout([entry], blobs))
    refused = rf"blob {PLAIN[0].digest}, compressed with {name}: content hashes to"
    with pytest.raises(errors.ArchiveInvalid, match=refused):
        bring(tmp_path / "x", memory)


# -- bounds


def test_one_layer_under_many_names_is_unpacked_once(
    memory: MemoryDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many names are hard links to one gzip file, in a tar and in a folder."""
    monkeypatch.setattr(budgets, "FLOOR", 2 * 1024**2)
    layer = images.layer({"file": bytes(1024**2)})
    image = images.image("ns/img", "1.0", [layer] * 50)
    first, *others = [f"l{number}" for number in range(50)]
    files = archives.docker_archive(image, ["ns/img:1.0"], {first: layer.content})
    listed = json.loads(files["manifest.json"])
    listed[0]["Layers"] = [f"{name}/layer.tar" for name in (first, *others)]
    files["manifest.json"] = json.dumps(listed).encode()
    links = [
        archives.member(f"{name}/layer.tar", type=b"1", linkname=f"{first}/layer.tar")
        for name in others
    ]
    archives.tar(tmp_path / "x", files, links)
    folder = archives.folder(tmp_path / "folder", files)
    for name in others:
        (folder / name).mkdir()
        (folder / name / "layer.tar").hardlink_to(folder / first / "layer.tar")
    for path in (tmp_path / "x", folder):
        assert bring(path, memory) == ["ns/img:1.0"]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["tar", "folder", "gzip"])
def test_what_all_layers_unpack_to_is_bounded(
    memory: MemoryDriver, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer is within the bound and all together are not; the tar's own unpacking counts."""
    monkeypatch.setattr(budgets, "FLOOR", 1024**2)
    layers = [images.layer({f"{number}": bytes(600_000)}) for number in range(30)]
    image = images.image("ns/img", "1.0", layers)
    packed = {f"l{number}": layer.content for number, layer in enumerate(layers)}
    files = archives.docker_archive(image, ["ns/img:1.0"], packed)
    if place == "folder":
        archives.folder(tmp_path / "x", files)
    else:
        archives.tar(tmp_path / "x", files, mode="w:gz" if place == "gzip" else "w")
    with pytest.raises(errors.ArchiveInvalid, match=r"'l\d+/layer.tar' unpacks to more than \d+ b"):
        bring(tmp_path / "x", memory)


@pytest.mark.parametrize(
    ("module", "bound", "value", "refused"),
    [
        (archive, "ENTRIES_LIMIT", 3, "lists more than 3 images and names of them"),
        (archive, "NAMES_LIMIT", 3, "gives sha256:.* more than 3 names"),
        (docker_archives, "_MANIFESTS_LIMIT", 600, "manifests take more than 600 bytes"),
    ],
)
def test_names_without_end(
    memory: MemoryDriver,
    tmp_path: Path,
    module: Any,
    bound: str,
    value: int,
    refused: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert getattr(module, bound) > value
    monkeypatch.setattr(module, bound, value)
    image = images.image("ns/img", "1.0", PLAIN[:1])
    names = [f"ns/img:{number}" for number in range(4)]
    files = archives.docker_archive(image, names, {"one": PLAIN[0].content})
    listed = json.loads(files["manifest.json"])
    files["manifest.json"] = json.dumps(listed * 2).encode()
    archives.tar(tmp_path / "x", files)
    with pytest.raises(errors.ArchiveInvalid, match=refused):
        bring(tmp_path / "x", memory)


def test_manifests_without_end(
    driver: LocalExportDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small indexes that list the same manifests again and again are bounded in number."""
    lists = [
        images.index("ns/list", str(n), [IMAGE], oci=True, annotations={"n": str(n)})
        for n in range(4)
    ]
    entries = [archives.entry(one, f"ns/list:{one.tag}") for one in lists]
    archives.tar(tmp_path / "x", archives.layout(entries, archives.blobs(lists)))
    put: list[Digest] = []
    real = driver.put_manifest

    def noted(*arguments: Any, expected: Digest, **options: Any) -> Descriptor:
        put.append(expected)
        return real(*arguments, expected=expected, **options)

    monkeypatch.setattr(driver, "put_manifest", noted)
    assert len(bring(tmp_path / "x", driver)) == 4
    assert put == [IMAGE.digest, *(one.digest for one in lists)]  # the image just once
    monkeypatch.setattr(importer, "MANIFESTS_LIMIT", 7)
    with pytest.raises(errors.ArchiveInvalid, match="lists more than 7 manifests"):
        bring(tmp_path / "x", driver)


def test_a_manifest_is_read_once(
    memory: MemoryDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where memory cannot keep all manifests, the bytes that are read again are bounded."""
    monkeypatch.setattr(budgets, "FLOOR", 2000)
    monkeypatch.setattr(budgets, "RATIO", 0)
    entries = [archives.entry(IMAGE, f"ns/img:{number}") for number in range(20)]
    archives.tar(tmp_path / "x", archives.layout(entries, archives.blobs([IMAGE])))
    assert len(bring(tmp_path / "x", memory)) == 20
    monkeypatch.setattr(archive, "KEPT_LIMIT", 0)
    with pytest.raises(errors.ArchiveInvalid, match="manifests read again and again, all in all"):
        bring(tmp_path / "x", memory)
