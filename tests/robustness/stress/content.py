# SPDX-License-Identifier: Apache-2.0
"""Images that share their layers, made from a seed: the same bytes every time."""

from __future__ import annotations

import dataclasses
import json
import random

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image

_SIZES = (1, 100, 10_000, 60_000, 150_000, 300_000)  # bytes, before they are packed
_TYPES = ("application/vnd.example.sbom+json", "application/vnd.example.signature")

KINDS = ("docker", "oci", "docker list", "oci index", "sha512", "artifact")


class Maker:
    """Makes images out of ``rng``'s choices, all from the same few layers."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        texts = [rng.randbytes(size) for size in _SIZES]
        self._layers = [_layer(text, oci=False) for text in texts]
        self._oci_layers = [_layer(text, oci=True) for text in texts]

    def image(self, name: str, text: str, kind: str) -> Image:
        """An image like no other but for its layers; ``text`` is what makes it unlike them."""
        if kind == "artifact":
            # Every other one has the blob of no bytes.
            content = text.encode() if self._rng.random() < 0.5 else b""
            return self._artifact(name, text, content)
        if kind == "sha512":
            return by_sha512(self._single(name, text, oci=True))
        oci = "oci" in kind
        if kind in ("docker", "oci"):
            return self._single(name, text, oci=oci)
        children = [self._single(name, text, oci=oci, architecture=a) for a in ("amd64", "arm64")]
        return images.index(name, None, children, oci=oci)

    def referrer(self, subject: Image, text: str) -> Image:
        name = str(subject.repository)
        return self._artifact(name, text, text.encode(), subject=subject.descriptor())

    def _single(self, name: str, text: str, *, oci: bool, architecture: str = "amd64") -> Image:
        layers = self._oci_layers if oci else self._layers
        chosen = self._rng.sample(layers, self._rng.randint(1, 4))
        return images.image(
            name, None, chosen, oci=oci, architecture=architecture, labels={"text": text}
        )

    def _artifact(self, name: str, text: str, content: bytes, **fields: object) -> Image:
        fields = {"annotations": {"org.example.text": text}, **fields}
        return images.artifact(name, None, self._rng.choice(_TYPES), content, **fields)


def by_sha512(image: Image) -> Image:
    """The same image, its blobs named by sha512 (OCI image-spec 1.1, "SHA-512")."""
    fields = json.loads(image.manifest.content)
    renamed = {str(d): Digest.of(content, "sha512") for d, content in image.blobs.items()}
    for described in (fields["config"], *fields["layers"]):
        described["digest"] = str(renamed[described["digest"]])
    blobs = {renamed[str(digest)]: content for digest, content in image.blobs.items()}
    manifest = Manifest.parse(json.dumps(fields).encode())
    return dataclasses.replace(image, manifest=manifest, blobs=blobs)


def _layer(text: bytes, *, oci: bool) -> Blob:
    # One of them is a plain tar: its blob has another name in the tree.
    return images.layer({"file": text}, oci=oci, plain=len(text) == _SIZES[1])
