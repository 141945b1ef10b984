# SPDX-License-Identifier: Apache-2.0
"""What images are called after an import, and which of them are imported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources.source import Source
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import archives, trees
from tests.support.archives import bring
from tests.support.commands import Run
from tests.support.content import referrer

ONE = images.image("x", None, [images.layer({"file": b"1"}, oci=True)], oci=True)
TWO = images.image("x", None, [images.layer({"file": b"2"}, oci=True)], oci=True)
LIST = images.index("x", None, [ONE, TWO], oci=True)
ABOUT = referrer(ONE, "application/vnd.example.sbom+json", "about")
SIGNATURE = referrer(ABOUT, "application/vnd.example.signature+json", "signature")
CONTAINERD = "io.containerd.image.name"

Entries = Sequence[dict[str, object]]


@pytest.fixture
def memory(tmp_path: Path) -> MemoryDriver:
    """A driver in memory: names do not depend on the target, and this one is fast."""
    return MemoryDriver(str(tmp_path))


def layout(path: Path, *entries: dict[str, object]) -> Path:
    content = archives.blobs([LIST, ABOUT, SIGNATURE])
    return archives.folder(path, archives.layout(entries, content))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ns/img:1.0", "ns/img:1.0"),
        ("img:1.0", "library/img:1.0"),
        ("docker.io/img:1.0", "library/img:1.0"),
        ("index.docker.io/library/img:1.0", "library/img:1.0"),
        ("docker.io/ns/img:1.0", "ns/img:1.0"),
        ("quay.io/img:1.0", "img:1.0"),
        ("docker.io/library/img:1.0", "library/img:1.0"),
        ("localhost/img:1.0", "img:1.0"),
        ("localhost:5000/img:1.0", "img:1.0"),
        ("registry:5000/ns/img:1.0", "ns/img:1.0"),
        ("[::1]:5000/ns/img:1.0", "ns/img:1.0"),
        ("quay.io/a/b/c:1.0", "a/b/c:1.0"),
        ("a_b/c:1.0", "a_b/c:1.0"),
    ],
)
def test_names_have_no_host(memory: MemoryDriver, tmp_path: Path, name: str, expected: str) -> None:
    assert bring(layout(tmp_path / "layout", archives.entry(ONE, name)), memory) == [expected]


def test_containerd_has_the_whole_name(memory: MemoryDriver, tmp_path: Path) -> None:
    """Where containerd's annotation has the whole name, ref.name is just the tag."""
    listed = archives.entry(ONE, "1.0", **{CONTAINERD: "docker.io/ns/img:1.0"})
    assert bring(layout(tmp_path / "layout", listed), memory) == ["ns/img:1.0"]


def test_what_an_exported_name_is(memory: MemoryDriver, tmp_path: Path) -> None:
    """A repository may look like a host."""
    listed = archives.entry(
        ONE, "quay.io/img:1.0", **{"org.openstack.image-uploader.repository": "quay.io/img"}
    )
    assert bring(layout(tmp_path / "layout", listed), memory) == ["quay.io/img:1.0"]


NAMED = [archives.entry(ONE, "n/a:1"), archives.entry(TWO, "n/b:2")]
TAGS = [archives.entry(ONE, "1"), archives.entry(TWO, "2")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("quay.io/n/b:2", "n/b:2"), (f"quay.io/n/b@{ONE.digest}", f"n/b@{ONE.digest}")],
)
def test_what_an_exported_image_was_called_since(
    memory: MemoryDriver, tmp_path: Path, name: str, expected: str
) -> None:
    """containerd keeps the annotations of an image that it gives another name."""
    kept = {"org.openstack.image-uploader.repository": "n/a", CONTAINERD: name}
    path = layout(tmp_path / "layout", archives.entry(ONE, "2", **kept))
    assert bring(path, memory) == [expected]


ID = str(ONE.manifest.config and ONE.manifest.config.digest)
NO_NAME = f"'{ONE.digest}' has no full name: --as REPOSITORY:TAG gives it one"
REFERRERS = [
    archives.entry(SIGNATURE),
    archives.entry(ABOUT),
    archives.entry(ONE, "n/a:1"),
    archives.entry(TWO, "n/b:1"),
]


# As `nerdctl -n k8s.io save` lists them.
BY_DIGEST = [
    archives.entry(ONE, f"registry.k8s.io/n/a@{ONE.digest}"),
    archives.entry(ONE, ID),
    archives.entry(ONE, "registry.k8s.io/n/a:1"),
]
HUB_NAMES = ["nginx:1", "docker.io/nginx:1", "library/nginx:1", "docker.io/library/nginx:1"]
SPELLINGS = [archives.entry(ONE, name) for name in HUB_NAMES]


@pytest.mark.parametrize(
    ("entries", "patterns", "name", "expected"),
    [
        (NAMED, [], None, ["n/a:1", "n/b:2"]),
        (NAMED, ["n/b*"], None, ["n/b:2"]),
        (NAMED, [str(ONE.digest)], None, ["n/a:1"]),
        (NAMED, ["n/b:2"], "c:3", ["c:3"]),
        (NAMED, [], "c", ["c:1", "c:2"]),
        (TAGS, [], "c", ["c:1", "c:2"]),
        (TAGS, ["2"], "c:3", ["c:3"]),
        ([archives.entry(ONE)], [], "c:3", ["c:3"]),
        ([archives.entry(ONE, "n/a:1"), archives.entry(ONE, "n/b:1")], [], "c:3", ["c:3"]),
        ([archives.entry(LIST, "n/a:1"), archives.entry(ONE)], [], None, ["n/a:1"]),
        ([archives.entry(LIST), archives.entry(ONE)], [], "c:3", ["c:3"]),
        ([archives.entry(ONE, ID)], [], "c:3", ["c:3"]),
        ([archives.entry(ONE, ID), archives.entry(ONE, "n/a:1")], [], None, ["n/a:1"]),
        (BY_DIGEST[:1], [], None, [f"n/a@{ONE.digest}"]),
        (BY_DIGEST[:1], [], "c", [f"c@{ONE.digest}"]),
        (BY_DIGEST[:1], [], "c:3", ["c:3"]),
        (BY_DIGEST, [], None, ["n/a:1"]),
        (BY_DIGEST, [f"registry.k8s.io/n/a@{ONE.digest}"], None, [f"n/a@{ONE.digest}"]),
        ([archives.entry(ONE, f"n/a:1@{ONE.digest}")], [], None, ["n/a:1"]),
        (SPELLINGS, [], None, ["library/nginx:1"]),
        (SPELLINGS, [], "c:3", ["c:3"]),
        *((SPELLINGS[:1], [pattern], None, ["library/nginx:1"]) for pattern in HUB_NAMES),
        *((SPELLINGS[1:2], [pattern], None, ["library/nginx:1"]) for pattern in HUB_NAMES),
        *((SPELLINGS[2:3], [pattern], None, ["library/nginx:1"]) for pattern in HUB_NAMES),
        ([archives.entry(ONE, "n/a:1")], ["docker.io/n/a:1"], None, ["n/a:1"]),
        ([archives.entry(ONE, "quay.io/a:1")], ["a:1"], None, ["a:1"]),
        (REFERRERS, [], None, ["n/a:1", "n/b:1", f"n/a@{ABOUT.digest}", f"n/a@{SIGNATURE.digest}"]),
        (REFERRERS, ["n/b:1"], None, ["n/b:1"]),
        (REFERRERS, ["n/a:1"], "c:3", ["c:3", f"c@{ABOUT.digest}", f"c@{SIGNATURE.digest}"]),
        (
            [*REFERRERS[:2], archives.entry(LIST, "n/l:1")],
            [],
            None,
            ["n/l:1", f"n/l@{ABOUT.digest}", f"n/l@{SIGNATURE.digest}"],
        ),
    ],
)
def test_which_and_as_what(
    memory: MemoryDriver,
    tmp_path: Path,
    entries: Entries,
    patterns: list[str],
    name: str | None,
    expected: list[str],
) -> None:
    path = layout(tmp_path / "layout", *entries)
    assert bring(path, memory, *patterns, name=name) == expected


@pytest.mark.parametrize(
    ("entries", "patterns", "name", "refused"),
    [
        (NAMED, [], "c:3", r"--as names one image, and there are 'n/a:1', 'n/b:2'"),
        (NAMED, ["c:*"], None, r"no image 'c:\*', but 'n/a:1', 'n/b:2'"),
        (TAGS, [], None, r"'1' has no full name: --as REPOSITORY:TAG gives it one"),
        ([archives.entry(ONE)], [], "c", r"'sha256:\w+' has no tag"),
        (
            [archives.entry(ONE, f"n/img@{TWO.digest}")],
            [],
            None,
            rf"'n/img@sha256:\w+' is another manifest, {ONE.digest} \(as skopeo sync",
        ),
        ([archives.entry(ONE, ID), archives.entry(TWO, "n/b:2")], [], None, NO_NAME),
        ([archives.entry(ONE, ID.removeprefix("sha256:"))], [], None, NO_NAME),
        ([archives.entry(ONE, "<none>:<none>")], [], None, NO_NAME),
        ([archives.entry(ONE, "ns/img")], [], None, r"'ns/img' has no full name"),
        (
            [archives.entry(ONE, "nginx:1"), archives.entry(TWO, "docker.io/library/nginx:1")],
            [],
            None,
            r"two images would be library/nginx:1: sha256:\w+ and sha256:\w+",
        ),
        (SPELLINGS[:1], ["nginx:2"], None, "no image 'nginx:2', but 'nginx:1'"),
        ([archives.entry(ONE, "quay.io/nginx:1")], ["docker.io/*"], None, "no image"),
        (
            [archives.entry(ONE, "quay.io/n/a:1"), archives.entry(TWO, "docker.io/n/a:1")],
            [],
            None,
            r"two images would be n/a:1: sha256:\w+ and sha256:\w+",
        ),
        ([archives.entry(ABOUT), archives.entry(TWO, "n/b:1")], [], None, r"has no full name"),
    ],
)
def test_ambiguous(
    memory: MemoryDriver,
    tmp_path: Path,
    entries: Entries,
    patterns: list[str],
    name: str | None,
    refused: str,
) -> None:
    path = layout(tmp_path / "layout", *entries)
    with pytest.raises(errors.UploaderError, match=refused):
        bring(path, memory, *patterns, name=name)
    assert not memory.repositories


def test_a_list_of_which_not_all_is_there(
    driver: LocalExportDriver, root: Path, tmp_path: Path
) -> None:
    """docker saves an image for one platform as an index that lists more than is there."""
    path = layout(tmp_path / "layout", archives.entry(LIST, "n/l:1"))
    (path / "blobs/sha256" / TWO.digest.encoded).unlink()
    with pytest.raises(errors.ImageUnknown, match=f"lacks {TWO.digest} of an index"):
        bring(path, driver)
    assert bring(path, driver, sparse=True) == ["n/l:1"]
    assert not (root / f"v2/n/l/manifests/{TWO.digest}").exists()
    assert (root / f"v2/n/l/manifests/{ONE.digest}").exists()
    report = Verification(Tree(root)).report()
    assert not report.findings
    assert len(report.notes) == 1  # it was meant


def test_what_is_no_image_is_named_and_left_out(root: Path, tmp_path: Path, run: Run) -> None:
    strange = archives.entry(TWO, "n/b:1") | {"mediaType": media_types.DOCKER_SCHEMA1}
    path = layout(tmp_path / "layout", archives.entry(ONE, "n/a:1"), strange)
    report = tmp_path / "report.json"
    result = run("import", path, "--report", report)
    assert (result.status, result.out) == (1, "")
    why = f"n/b:1 is of type {media_types.DOCKER_SCHEMA1}"
    assert result.err.splitlines()[-1] == f"ERROR: {path}: not imported: {why}"
    assert trees.catalog(root) == ["n/a"]
    told = json.loads(report.read_text())
    assert (told["status"], told["why"]) == ("failed", f"{path}: not imported: {why}")
    assert told["entries_left"] == [why]
    assert [image["status"] for image in told["images"]] == ["copied"]


# -- docker's archives


def docker(names: Sequence[str] | None = ("ns/img:1.0",), *, layers: int = 2) -> archives.Files:
    plain = [images.layer({"file": bytes([n])}, plain=True) for n in range(layers)]
    image = images.image("x", None, plain)
    return archives.docker_archive(image, names, {f"l{n}": b.content for n, b in enumerate(plain)})


def image_of(root: Path, name: str, tag: str) -> Manifest:
    return Manifest.parse((root / f"v2/{name}/.tags/{tag}/index.json").read_bytes())


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_docker_saves(driver: LocalExportDriver, root: Path, tmp_path: Path, mode: str) -> None:
    """Layers are not compressed anew, so the manifest is the same whoever saved the image."""
    archives.tar(tmp_path / "saved", docker(), mode=mode)
    assert bring(tmp_path / "saved", driver) == ["ns/img:1.0"]
    found = image_of(root, "ns/img", "1.0")
    assert found.media_type == media_types.DOCKER_MANIFEST
    assert {layer.media_type for layer in found.layers} == {media_types.DOCKER_LAYER}
    assert found.digest.encoded == (
        "a0183e2c97118802874711468133a2e7917bf3818051b394acc0e7e0836bd01b"
    )
    assert not trees.problems(root)


def test_a_layer_that_is_a_link(driver: LocalExportDriver, root: Path, tmp_path: Path) -> None:
    """docker writes a link for a layer that is in the archive already."""
    files = docker()
    moved = {n.replace("l1/layer.tar", "l1/real.tar"): c for n, c in files.items()}
    link = archives.member("l1/layer.tar", type=b"2", linkname="../l1/real.tar")
    archives.tar(tmp_path / "saved", moved, [link])
    archives.tar(tmp_path / "plain", files)
    assert bring(tmp_path / "saved", driver) == ["ns/img:1.0"]
    assert bring(tmp_path / "plain", driver, name="plain:1") == ["plain:1"]
    assert image_of(root, "ns/img", "1.0") == image_of(root, "plain", "1")


def test_layers_that_are_gzip(driver: LocalExportDriver, root: Path, tmp_path: Path) -> None:
    packed = [images.layer({"file": bytes([n])}) for n in range(2)]
    image: Image = images.image("x", None, packed)
    files = archives.docker_archive(
        image, ["ns/img:1.0"], {f"l{n}": blob.content for n, blob in enumerate(packed)}
    )
    archives.tar(tmp_path / "saved", files)
    bring(tmp_path / "saved", driver)
    assert image_of(root, "ns/img", "1.0").layers == image.manifest.layers


def test_several_names(memory: MemoryDriver, tmp_path: Path) -> None:
    archives.tar(tmp_path / "saved", docker(["a:1", "docker.io/a:1", "quay.io/b:1"]))
    assert bring(tmp_path / "saved", memory) == ["library/a:1", "b:1"]


@pytest.mark.parametrize("names", [None, []])
def test_no_name(memory: MemoryDriver, tmp_path: Path, names: list[str] | None) -> None:
    archives.tar(tmp_path / "saved", docker(names))
    with pytest.raises(errors.ArchiveInvalid, match="has no full name: --as"):
        bring(tmp_path / "saved", memory)
    assert bring(tmp_path / "saved", memory, name="a:1") == ["a:1"]


def test_what_docker_saves_today_is_a_layout(
    driver: LocalExportDriver, root: Path, tmp_path: Path
) -> None:
    """The archive is both kinds, and the layout has the image's own manifest."""
    listed = archives.entry(ONE, "1.0", **{CONTAINERD: "docker.io/ns/img:1.0"})
    content = archives.blobs([ONE])
    both = {
        **archives.layout([listed], content),
        "manifest.json": docker()["manifest.json"],
    }
    archives.tar(tmp_path / "saved", both)
    assert bring(tmp_path / "saved", driver) == ["ns/img:1.0"]
    assert image_of(root, "ns/img", "1.0").digest == ONE.digest


# -- any source


class OneImage(Source):
    """A registry that gives the same image for every digest."""

    def manifest(self, reference: Tag | Digest, size: int | None = None) -> Manifest:
        return ONE.manifest

    def blob(self, descriptor: Descriptor, start: int = 0) -> Iterator[bytes]:
        yield ONE.blobs[descriptor.digest]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_an_image_keeps_the_digest_that_it_was_asked_for_by(
    memory: MemoryDriver, algorithm: str
) -> None:
    digest = Digest.of(ONE.manifest.content, algorithm)
    Copier(memory, ONE.repository, OneImage()).copy(digest, Tag("1.0"), all_platforms=False)
    assert memory.repositories[ONE.repository].tags == {Tag("1.0"): digest}
