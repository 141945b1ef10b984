# SPDX-License-Identifier: Apache-2.0
"""All kinds of content that a tree may hold."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
from typing import Any

from image_uploader_plugins import media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import SIZE_LIMIT, Manifest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image, corpus

# A manifest that another one is about, and one beside it.
SUBJECT = images.image("ns/img", "1.0", [images.layer({"file": b"one"})])
OTHER = images.image("ns/img", "2.0", [images.layer({"file": b"two"})])


def related() -> list[Image]:
    """Images, and a referrer of ``SUBJECT``, a layer of which lies in two repositories."""
    return [
        *images.corpus(),
        SUBJECT,
        OTHER,
        referrer(SUBJECT, "application/vnd.example.sbom+json", "about"),
        images.image("ns/copy", "1.0", [images.layer({"file": b"one"})]),
    ]


def everything() -> list[Image]:
    """OCI image-spec 1.1.1, and what Docker had before it."""
    return [
        *corpus(),
        schema_1(),
        sha512(),
        empty_blob(),
        artifact(),
        artifact_index(),
        nested_index(),
        sparse_index(),
        data(),
        elsewhere(),
        custom(),
        no_layers(),
        zstd(),
        largest(),
    ]


def schema_1() -> Image:
    """Docker "Image Manifest Version 2, Schema 1", unsigned."""
    layer = images.layer({"file": b"schema 1"})
    content = {
        "schemaVersion": 1,
        "name": "old/schema1",
        "tag": "1.0",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": str(layer.digest)}],
        "history": [
            {"v1Compatibility": json.dumps({"id": "0" * 64, "created": "2016-01-01T00:00:00Z"})}
        ],
    }
    manifest = Manifest.parse(json.dumps(content).encode(), media_types.DOCKER_SCHEMA1)
    return Image(RepositoryName("old/schema1"), Tag("1.0"), manifest, {layer.digest: layer.content})


def sha512() -> Image:
    """An image whose blobs go by sha512 (OCI image-spec 1.1, "SHA-512")."""
    layer = images.layer({"file": b"sha512"}, oci=True)
    config = Blob(
        json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
            }
        ).encode(),
        media_types.OCI_CONFIG,
    )
    blobs = {Digest.of(blob.content, "sha512"): blob for blob in (config, layer)}
    described = [blob.descriptor() | {"digest": str(digest)} for digest, blob in blobs.items()]
    content = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": described[0],
        "layers": described[1:],
    }
    manifest = Manifest.parse(json.dumps(content).encode())
    held = {digest: blob.content for digest, blob in blobs.items()}
    return Image(RepositoryName("odd/sha512"), Tag("1.0"), manifest, held)


def empty_blob() -> Image:
    return images.artifact("odd/empty", "1.0", "application/vnd.example.empty", b"")


def artifact() -> Image:
    return images.artifact("odd/artifact", "1.0", "application/vnd.example.sbom+json", b"{}\n")


def artifact_index() -> Image:
    """An index that says what it is for (image-index.md, "artifactType")."""
    name = "odd/artifact-index"
    child = images.artifact(name, None, "application/vnd.example.part", b"part")
    return images.index(name, "1.0", [child], oci=True, artifactType="application/vnd.example.all")


def nested_index() -> Image:
    """An index of an index, beside an image."""
    name = "odd/nested"
    leaves = [_small(name, architecture) for architecture in ("amd64", "arm64")]
    inner = images.index(name, None, leaves, oci=True)
    return images.index(name, "1.0", [inner, _small(name, "s390x")], oci=True)


def sparse_index() -> Image:
    """An index some of whose images the repository does not hold."""
    name = "odd/sparse"
    present, absent = _small(name, "amd64"), _small(name, "riscv64")
    whole = images.index(name, "1.0", [present, absent], oci=True)
    return dataclasses.replace(whole, children=(present,))


def data() -> Image:
    """Descriptors that carry their content (descriptor.md, "Embedded Content")."""
    layer = _layer("data")
    layers = [layer.descriptor(data=base64.b64encode(layer.content).decode())]
    return images.image("odd/data", "1.0", [layer], oci=True, layers=layers)


def elsewhere() -> Image:
    """A layer that may not be distributed, at its own place (layer.md)."""
    media_type = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    held, foreign = _layer("held"), dataclasses.replace(_layer("foreign"), media_type=media_type)
    layers = [held.descriptor(), foreign.descriptor(urls=["https://layers.example/foreign"])]
    return images.image("odd/elsewhere", "1.0", [held], oci=True, layers=layers)


def custom() -> Image:
    """Fields that no specification knows (considerations.md, "Extensibility")."""
    fields: dict[str, Any] = {"org.example.field": {"nested": [1, None, "\u00e9"]}, "mystery": True}
    return images.image("odd/custom", "1.0", [_layer("custom")], oci=True, **fields)


def no_layers() -> Image:
    return images.image("odd/no-layers", "1.0", [], oci=True)


def zstd() -> Image:
    """layer.md, "+zstd"; a frame with one raw block (RFC 8878, section 3.1.1)."""
    tar = gzip.decompress(_layer("zstd").content)
    header = b"\x28\xb5\x2f\xfd\x60" + (len(tar) - 256).to_bytes(2, "little")
    frame = header + (len(tar) << 3 | 1).to_bytes(3, "little") + tar
    diff_id = f"sha256:{Digest.of(tar).encoded}"
    layer = Blob(frame, "application/vnd.oci.image.layer.v1.tar+zstd", diff_id)
    return images.image("odd/zstd", "1.0", [layer], oci=True)


def largest() -> Image:
    """A manifest of exactly 4 MiB (distribution-spec, "Pushing Manifests")."""

    def padded(size: int) -> Image:
        return images.artifact(
            "odd/largest", "1.0", "application/vnd.example", b"{}", annotations={"pad": "x" * size}
        )

    return padded(SIZE_LIMIT - len(padded(0).manifest.content))


def _layer(text: str) -> Blob:
    return images.layer({"file": text.encode()}, oci=True)


def _small(name: str, architecture: str) -> Image:
    layers = [_layer(architecture)]
    return images.image(name, None, layers, oci=True, architecture=architecture)


def referrer(subject: Image, artifact_type: str, name: str) -> Image:
    """An artifact without a tag that says ``subject`` is what it is about."""
    return images.artifact(
        str(subject.repository),
        None,
        artifact_type,
        name.encode(),
        subject=subject.descriptor(),
        annotations={"org.example.name": name},
    )
