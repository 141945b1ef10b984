"""All kinds of content that a tree may hold."""

from __future__ import annotations

import json

from image_uploader_plugins.demo import images
from image_uploader_plugins.demo.images import OCI_CONFIG, Blob, Image, corpus
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import DOCKER_SCHEMA1, OCI_MANIFEST, Manifest
from image_uploader_plugins.reference import RepositoryName, Tag


def everything() -> list[Image]:
    return [*corpus(), schema_1(), sha512(), empty_blob(), artifact()]


def schema_1() -> Image:
    """Docker "Image Manifest Version 2, Schema 1", unsigned."""
    layer = images.layer({"file": b"schema 1"})
    content = {
        "schemaVersion": 1,
        "name": "old/schema1",
        "tag": "1.0",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": str(layer.digest)}],
        "history": [{"v1Compatibility": json.dumps({"id": "0" * 64, "created": "2016"})}],
    }
    manifest = Manifest.parse(json.dumps(content).encode(), DOCKER_SCHEMA1)
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
        OCI_CONFIG,
    )
    blobs = {Digest.of(blob.content, "sha512"): blob for blob in (config, layer)}
    described = [blob.descriptor() | {"digest": str(digest)} for digest, blob in blobs.items()]
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
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
