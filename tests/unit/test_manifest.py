# SPDX-License-Identifier: Apache-2.0
"""Manifests and descriptors: what is taken, what is refused."""

from __future__ import annotations

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from image_uploader_plugins import errors, manifest, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest, Platform
from image_uploader_plugins.testing import images

IMAGE = images.image("a", None, [images.layer({"f": b"x"})], oci=True)
INDEX = images.index("a", None, [IMAGE], oci=True)
LAYER = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": str(Digest.of(b"x")), "size": 1}


def edited(image: images.Image = IMAGE, **fields: Any) -> bytes:
    merged = json.loads(image.manifest.content) | fields
    return json.dumps({k: v for k, v in merged.items() if v != "absent"}).encode()


def test_bytes_are_kept() -> None:
    content = edited() + b"\n  "
    parsed = Manifest.parse(content)
    assert (parsed.content, parsed.digest) == (content, Digest.of(content))


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, media_types.DOCKER_SCHEMA1),
        (
            {"schemaVersion": 1, "fsLayers": [], "signatures": [1]},
            media_types.DOCKER_SCHEMA1_SIGNED,
        ),
        ({"schemaVersion": 2, "manifests": []}, media_types.OCI_INDEX),
        ({"schemaVersion": 2, "config": LAYER}, media_types.OCI_MANIFEST),
        ({"schemaVersion": 2, "config": LAYER, "layers": None}, media_types.OCI_MANIFEST),
        (
            {"schemaVersion": 2, "mediaType": media_types.DOCKER_LIST, "manifests": None},
            media_types.DOCKER_LIST,
        ),
    ],
)
def test_the_type_is_found(fields: dict[str, Any], kind: str) -> None:
    assert Manifest.parse(json.dumps(fields).encode()).media_type == kind


def test_schema_1_goes_by_either_name() -> None:
    content = b'{"schemaVersion": 1, "fsLayers": [], "signatures": [{}]}'
    for kind in media_types.SCHEMA1_TYPES:
        assert Manifest.parse(content, kind).media_type == kind


def test_blobs_come_once_and_without_those_from_elsewhere() -> None:
    foreign = LAYER | {"digest": str(Digest.of(b"foreign")), "urls": ["https://example.org/"]}
    parsed = Manifest.parse(edited(layers=[LAYER, LAYER, foreign]))
    assert parsed.config is not None
    assert [blob.digest for blob in parsed.blobs()] == [parsed.config.digest, Digest.of(b"x")]


def test_artifacts_and_subjects() -> None:
    artifact = images.artifact("a", None, "application/x", b"1", subject=IMAGE.descriptor())
    assert artifact.manifest.subject is not None
    assert artifact.manifest.subject.digest == IMAGE.digest


@pytest.mark.parametrize(
    "content",
    [
        edited(mediaType=media_types.OCI_INDEX),
        edited(mediaType="text/html"),
        edited(mediaType=7),
        edited(manifests=[]),
        edited(INDEX, layers=[]),
        edited(INDEX, config=LAYER),
        edited(config="absent"),
        edited(config=None),
        edited(layers={}),
        edited(layers=["x"]),
        edited(layers=[LAYER | {"size": -1}]),
        edited(layers=[LAYER | {"size": True}]),
        edited(layers=[LAYER | {"size": 1.0}]),
        edited(layers=[LAYER | {"digest": "sha256:xyz"}]),
        edited(layers=[LAYER | {"digest": ["x"]}]),
        edited(layers=[LAYER | {"mediaType": "a/b\nc"}]),
        edited(layers=[LAYER | {"mediaType": None}]),
        edited(schemaVersion=3),
        edited(schemaVersion="absent"),
        edited(subject="x"),
        edited(INDEX, manifests=[IMAGE.descriptor(platform=[])]),
        b'{"schemaVersion": 1, "fsLayers": [7]}',
        b'{"schemaVersion": 1, "fsLayers": [{}]}',
        b"\xef\xbb\xbf" + edited(),
        b"[" * 10**6,
        b'{"a":' * 10**5,
        b"1" * 10**5,
        edited() + b" " * manifest.SIZE_LIMIT,
    ],
    ids=lambda content: repr(content[-40:]),
)
def test_what_is_refused(content: bytes) -> None:
    with pytest.raises(errors.ManifestInvalid):
        Manifest.parse(content)


@hypothesis.given(strategies.binary() | strategies.text().map(str.encode))
def test_any_bytes_are_parsed_or_refused(content: bytes) -> None:
    with pytest.raises(errors.ManifestInvalid):
        Manifest.parse(content)


JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=10,
)


@pytest.mark.slow
@hypothesis.given(
    strategies.sampled_from(["config", "layers", "manifests", "subject", "mediaType", "fsLayers"]),
    JSON,
    strategies.sampled_from([IMAGE, INDEX]),
)
def test_any_field_is_taken_or_refused(name: str, value: Any, image: images.Image) -> None:
    try:
        parsed = Manifest.parse(edited(image, **{name: value}))
    except errors.ManifestInvalid:
        return
    assert parsed.media_type in media_types.MANIFEST_TYPES


@hypothesis.given(strategies.text())
def test_a_media_type_carries_no_directive(text: str) -> None:
    try:
        Descriptor(text, Digest.of(b""), 0)
    except errors.ManifestInvalid:
        return
    assert text.isascii() and text.isprintable() and not set(text) & set(" \"'\\<>%")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"urls": ["https://x/y"]},
        {"platform": {"architecture": "arm", "os": "linux", "variant": "v7"}},
        {"platform": {"os": "linux"}, "artifactType": "application/vnd.example"},
    ],
)
def test_a_descriptor_is_written_as_it_was_read(fields: dict[str, Any]) -> None:
    assert Descriptor.parse(LAYER | fields).as_dict() == LAYER | fields


def test_what_is_not_known_of_a_descriptor_is_not_written() -> None:
    assert "size" not in Descriptor("a/b", Digest.of(b"x"), None).as_dict()


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("Linux/X86_64", "linux/amd64"),
        ("linux/x86-64/V2", "linux/amd64/v2"),
        ("linux/i386/v1", "linux/386"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/aarch64/8", "linux/arm64"),
        ("linux/arm64/9", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("linux/arm/v8", "linux/arm/v8"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel/v7", "linux/arm/v6"),
        ("macOS/arm64", "darwin/arm64"),
        ("windows/amd64", "windows/amd64"),
        ("linux/ppc64le", "linux/ppc64le"),
    ],
)
def test_a_platform_has_one_name(text: str, normalised: str) -> None:
    parsed = Platform.parse(text)
    assert str(parsed) == normalised
    assert parsed == Platform.parse(normalised)


@pytest.mark.parametrize(
    "text",
    ["", "amd64", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/amd64 ", "l/\u00e4", 1],
)
def test_what_is_no_platform_is_refused_with_the_form(text: Any) -> None:
    with pytest.raises(errors.InvalidReference, match=r"OS/ARCHITECTURE\[/VARIANT\]"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("entry", "wanted", "fits"),
    [
        (Platform("arm64", "linux", "v8"), "linux/arm64", True),
        (Platform("arm64", "linux"), "linux/arm64/v8", True),
        (Platform("amd64", "linux"), "linux/amd64", True),
        (Platform("amd64", "linux", "v1"), "linux/amd64", True),
        (Platform("amd64", "linux", "v2"), "linux/amd64", False),
        (Platform("amd64", "linux", "v3"), "linux/amd64/v3", True),
        (Platform("amd64", "linux"), "linux/amd64/v3", False),
        (Platform("arm", "linux"), "linux/arm/v7", True),
        (Platform("arm", "linux", "v6"), "linux/arm", False),
        (Platform("amd64"), "linux/amd64", True),
        (Platform("amd64", "windows"), "linux/amd64", False),
        (Platform("unknown", "unknown"), "linux/amd64", False),
        (Platform(), "linux/amd64", False),
    ],
)
def test_an_entry_is_for_the_platform_that_is_wanted(
    entry: Platform, wanted: str, fits: bool
) -> None:
    assert entry.fits(Platform.parse(wanted)) == fits


@pytest.mark.parametrize("name", ["Digest", "SIZE", "mediatype", "url\u017f"])
def test_a_name_that_others_read_as_a_known_one_is_refused(name: str) -> None:
    with pytest.raises(errors.ManifestInvalid, match="some read it as"):
        Descriptor.parse(LAYER | {name: LAYER["digest"]})


@pytest.mark.parametrize("told", [LAYER["digest"], "sha256:short", 7, None])
def test_what_an_attestation_describes(told: object) -> None:
    annotations = {"vnd.docker.reference.type": "attestation-manifest"}
    more = {} if told is None else {"vnd.docker.reference.digest": told}
    parsed = Descriptor.parse(LAYER | {"annotations": annotations | more})
    assert parsed.is_attestation
    assert str(parsed.described) == (told if told == LAYER["digest"] else "None")
