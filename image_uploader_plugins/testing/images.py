# SPDX-License-Identifier: Apache-2.0
"""Sample images, small but real; their bytes are the same every time."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from image_uploader_plugins import media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest, image_fields, index_fields
from image_uploader_plugins.reference import RepositoryName, Tag

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Blob:
    """A blob's bytes and type; ``diff_id`` is the digest of a layer's uncompressed tar."""

    content: bytes = dataclasses.field(repr=False)
    media_type: str
    diff_id: str = ""

    @property
    def digest(self) -> Digest:
        """Return the SHA-256 digest of the content."""
        return Digest.of(self.content)

    def descriptor(self, **more: Any) -> Json:
        """Return the descriptor as JSON has it, with ``more`` fields."""
        return Descriptor(self.media_type, self.digest, len(self.content)).as_dict() | more


@dataclasses.dataclass(frozen=True)
class Image:
    """A manifest, its blobs (by digest) and, for an index, its children."""

    repository: RepositoryName
    tag: Tag | None
    manifest: Manifest
    blobs: Mapping[Digest, bytes] = dataclasses.field(default_factory=dict, repr=False)
    children: tuple[Image, ...] = ()

    @property
    def digest(self) -> Digest:
        """Return the digest of the manifest."""
        return self.manifest.digest

    def walk(self) -> Iterator[Image]:
        """Yield all images to push, children before the index that lists them."""
        for child in self.children:
            yield from child.walk()
        yield self

    def descriptor(self, **more: Any) -> Json:
        """Return the descriptor of the manifest as JSON has it, with ``more`` fields."""
        content = self.manifest.content
        return Blob(content, self.manifest.media_type).descriptor(**more)


def layer(files: Mapping[str, bytes], *, oci: bool = False, plain: bool = False) -> Blob:
    """Return a layer with ``files`` (path to content): a gzipped tar, or a plain one."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    data = buffer.getvalue()
    diff_id = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if plain:
        return Blob(data, media_types.OCI_LAYER if oci else media_types.DOCKER_LAYER, diff_id)
    return Blob(
        _gzipped(data),
        media_types.OCI_LAYER_GZIP if oci else media_types.DOCKER_LAYER_GZIP,
        diff_id,
    )


def _gzipped(data: bytes) -> bytes:
    packed = gzip.compress(data, mtime=0)
    # NOTE: Python 3.13 writes "unknown", earlier ones "Unix" (RFC 1952, 2.3.1); an image
    # is to have one digest with all of them.
    return packed[:9] + b"\x03" + packed[10:]


def image(
    name: str,
    tag: str | None,
    layers: Iterable[Blob],
    /,
    *,
    oci: bool = False,
    architecture: str = "amd64",
    labels: Mapping[str, str] | None = None,
    **fields: Any,
) -> Image:
    """Return a schema 2 or OCI image; ``fields`` (subject, annotations...) go into the manifest."""
    layers = list(layers)
    description = {
        "architecture": architecture,
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["/hello"], "Labels": dict(labels or {})},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "demo"} for _ in layers],
        "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in layers]},
    }
    config = Blob(_json(description), media_types.OCI_CONFIG if oci else media_types.DOCKER_CONFIG)
    media_type = media_types.OCI_MANIFEST if oci else media_types.DOCKER_MANIFEST
    return _image(name, tag, media_type, config, layers, fields)


def artifact(
    name: str, tag: str | None, artifact_type: str, content: bytes, **fields: Any
) -> Image:
    """Return an OCI artifact of one blob, with the empty config."""
    blob = Blob(content, media_types.OCTET_STREAM)
    fields = {"artifactType": artifact_type, **fields}
    return _image(
        name, tag, media_types.OCI_MANIFEST, Blob(b"{}", media_types.OCI_EMPTY), [blob], fields
    )


def index(
    name: str, tag: str | None, children: Iterable[Image], *, oci: bool = False, **fields: Any
) -> Image:
    """Return a manifest list or OCI index; read the children's platforms from their configs."""
    children = tuple(children)
    media_type = media_types.OCI_INDEX if oci else media_types.DOCKER_LIST
    described = [child.descriptor(**_platform(child)) for child in children]
    content = _json(index_fields(described, media_type) | fields)
    return Image(RepositoryName(name), _tag(tag), Manifest.parse(content), children=children)


def corpus() -> list[Image]:
    """Return images with shared layers, lists, OCI types, a plain layer, nested names."""
    hello = {"hello": b"#!/bin/sh\necho hello\n" * 400}
    shared, oci_base = layer(hello), layer(hello, oci=True)

    def variants(name: str, *, oci: bool) -> list[Image]:
        return [
            image(
                name,
                None,
                [oci_base if oci else shared, layer({"arch": arch.encode()}, oci=oci)],
                oci=oci,
                architecture=arch,
            )
            for arch in ("amd64", "arm64", "s390x")
        ]

    return [
        image("base", "1.0", [shared], labels={"version": "1.0"}),
        image("openstack/nova-api", "wallaby", [shared, layer({"nova": b"nova\n" * 999})]),
        image("openstack/nova/compute", "wallaby", [shared, layer({"kvm": b"kvm\n" * 999})]),
        image("openstack/plain", "wallaby", [layer({"plain": b"plain\n" * 999}, plain=True)]),
        image("edge/oci", "1.0", [oci_base, layer({"edge": b"edge\n" * 999}, oci=True)], oci=True),
        index("multi/docker", "1.0", variants("multi/docker", oci=False)),
        index("multi/oci", "1.0", variants("multi/oci", oci=True), oci=True),
    ]


def _image(
    name: str, tag: str | None, media_type: str, config: Blob, layers: list[Blob], fields: Json
) -> Image:
    described = [blob.descriptor() for blob in (config, *layers)]
    content = _json(image_fields(media_type, described[0], described[1:]) | fields)
    blobs = {blob.digest: blob.content for blob in (config, *layers)}
    return Image(RepositoryName(name), _tag(tag), Manifest.parse(content), blobs)


def _platform(child: Image) -> Json:
    config = child.manifest.config
    if config is None or config.media_type == media_types.OCI_EMPTY:
        return {}  # an index, or an artifact
    fields = json.loads(child.blobs[config.digest])
    return {"platform": {"architecture": fields["architecture"], "os": fields["os"]}}


def _tag(tag: str | None) -> Tag | None:
    return Tag(tag) if tag else None


def _json(value: Json) -> bytes:
    return json.dumps(value, indent=2).encode()
