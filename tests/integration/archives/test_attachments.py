# SPDX-License-Identifier: Apache-2.0
"""Layouts of ``cosign save`` and hauler: images, and what is attached to them, under one name."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_uploader_plugins.archives.importing.plan import Name, plan
from image_uploader_plugins.archives.opening import open_archive
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import archives
from tests.support.archives import bring
from tests.support.content import referrer

ONE = images.image("x", None, [images.layer({"file": b"1"}, oci=True)], oci=True)
TWO = images.image("x", None, [images.layer({"file": b"2"}, oci=True)], oci=True)
LIST = images.index("x", None, [ONE, TWO], oci=True)
SIGNATURE, ATTESTATION, SBOM = (
    images.image("x", None, [images.layer({kind: b"about"}, oci=True)], oci=True)
    for kind in ("sig", "att", "sbom")
)
BUNDLE = referrer(ONE, "application/vnd.dev.sigstore.bundle.v0.3+json", "bundle")
CONTAINERD = "io.containerd.image.name"
COSIGN, HAULER = "dev.cosignproject.cosign", "dev.hauler"

Entries = list[dict[str, object]]


@pytest.fixture
def memory(tmp_path: Path) -> MemoryDriver:
    return MemoryDriver(str(tmp_path))


def layout(path: Path, entries: Entries) -> Path:
    everything = [LIST, SIGNATURE, ATTESTATION, SBOM, BUNDLE]
    return archives.folder(path, archives.layout(entries, archives.blobs(everything)))


def kind(image: Image, vendor: str, kind: str, name: str | None = "n/a:1") -> dict[str, object]:
    """Return an entry as hauler writes it, or without a name as cosign does."""
    names = {CONTAINERD: f"quay.io/{name}"} if name else {}
    return archives.entry(image, name, kind=f"{vendor}/{kind}", **names)


def attached(image: Image, suffix: str, repository: str = "n/a") -> str:
    return f"{repository}:sha256-{image.digest.encoded}{suffix}"


@pytest.mark.parametrize("vendor", [COSIGN, HAULER])
def test_hauler(memory: MemoryDriver, tmp_path: Path, vendor: str) -> None:
    entries = [
        kind(SIGNATURE, vendor, "sigs"),
        kind(ONE, vendor, "image"),
        kind(ATTESTATION, vendor, "atts"),
        kind(SBOM, vendor, "sboms"),
        kind(BUNDLE, vendor, f"referrers/{BUNDLE.digest.encoded}"),
        kind(TWO, vendor, "image", "n/b:1"),
    ]
    assert bring(layout(tmp_path / "x", entries), memory) == [
        "n/a:1",
        "n/b:1",
        attached(ONE, ".sig"),
        attached(ONE, ".att"),
        attached(ONE, ".sbom"),
        f"n/a@{BUNDLE.digest}",
    ]


def test_signatures_of_an_index(memory: MemoryDriver, tmp_path: Path) -> None:
    entries = [kind(LIST, HAULER, "imageIndex"), kind(SIGNATURE, HAULER, "sigs")]
    path = layout(tmp_path / "x", entries)
    assert bring(path, memory) == ["n/a:1", attached(LIST, ".sig")]


def test_the_name_in_another_spelling(memory: MemoryDriver, tmp_path: Path) -> None:
    signature = archives.entry(SIGNATURE, "library/a:1", kind=f"{HAULER}/sigs")
    entries = [kind(ONE, HAULER, "image", "a:1") | archives.entry(ONE, "a:1"), signature]
    assert bring(layout(tmp_path / "x", entries), memory) == [
        "library/a:1",
        attached(ONE, ".sig", "library/a"),
    ]


def test_names_by_digest(memory: MemoryDriver, tmp_path: Path) -> None:
    name = f"n/a@{LIST.digest}"
    entries = [kind(LIST, HAULER, "imageIndex", name), kind(SIGNATURE, HAULER, "sigs", name)]
    path = layout(tmp_path / "x", entries)
    assert bring(path, memory) == [name, attached(LIST, ".sig")]


def test_cosign_saves_one_image_without_a_name(memory: MemoryDriver, tmp_path: Path) -> None:
    entries = [kind(ONE, COSIGN, "image", None), kind(SIGNATURE, COSIGN, "sigs", None)]
    path = layout(tmp_path / "x", entries)
    assert bring(path, memory, name="c:3") == ["c:3", attached(ONE, ".sig", "c")]


def test_a_new_name_for_both(memory: MemoryDriver, tmp_path: Path) -> None:
    entries = [kind(ONE, COSIGN, "image"), kind(SIGNATURE, COSIGN, "sigs")]
    path = layout(tmp_path / "x", entries)
    assert bring(path, memory, name="c") == ["c:1", attached(ONE, ".sig", "c")]


def test_just_with_its_image(memory: MemoryDriver, tmp_path: Path) -> None:
    entries = [
        kind(ONE, COSIGN, "image"),
        kind(SIGNATURE, COSIGN, "sigs"),
        kind(TWO, COSIGN, "image", "n/b:1"),
    ]
    path = layout(tmp_path / "x", entries)
    assert bring(path, memory, "n/b:1") == ["n/b:1"]
    assert bring(path, memory, "n/a:1") == ["n/a:1", attached(ONE, ".sig")]


@pytest.mark.parametrize("name", [None, "n/c:1"])
def test_of_an_image_that_is_not_there(tmp_path: Path, name: str | None) -> None:
    """The attachment is reported, and the other images are imported."""
    entries = [
        kind(ONE, COSIGN, "image"),
        kind(TWO, COSIGN, "image", "n/b:1"),
        kind(SIGNATURE, COSIGN, "sigs", name),
    ]
    archive = open_archive(layout(tmp_path / "x", entries))
    assert [str(job) for job in plan(archive)] == ["n/a:1", "n/b:1"]
    shown = (name and f"quay.io/{name}") or str(SIGNATURE.digest)
    assert archive.skipped == [f"{shown}, a .sig of an image that is not there"]


def test_one_image_named_by_as(tmp_path: Path) -> None:
    """--as allows for one image; what is attached to it does not count as another."""
    entries = [kind(ONE, COSIGN, "image", None), kind(SIGNATURE, COSIGN, "sigs", None)]
    archive = open_archive(layout(tmp_path / "x", entries))
    jobs = plan(archive, [], Name.parse("c:3"))
    assert [job.descriptor.digest for job in jobs] == [ONE.digest, SIGNATURE.digest]
