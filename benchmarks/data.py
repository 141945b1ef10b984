# SPDX-License-Identifier: Apache-2.0
"""The images to copy: the same bytes in every run, in a docker-registry on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import requests

from image_uploader_plugins import media_types

MB = 1000 * 1000
KB = 1000

_VERSION = 1  # of what this module makes; another one makes the data anew
_TIMEOUT = 600  # seconds


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer by the name and the size of the file in it; equal layers have equal bytes."""

    name: str
    size: int


@dataclasses.dataclass(frozen=True)
class Blob:
    """A blob as a manifest describes it."""

    digest: str
    size: int


@dataclasses.dataclass(frozen=True)
class Pushed:
    """An image in the registry; ``blobs`` has its config and layers."""

    name: str
    tag: str
    digest: str
    blobs: tuple[Blob, ...]

    @property
    def reference(self) -> str:
        """Return ``name:tag``."""
        return f"{self.name}:{self.tag}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """An image to make: its names, and its layers from the bottom to the top."""

    name: str
    layers: tuple[Layer, ...]
    tags: tuple[str, ...] = ("1.0",)


def deployment(names: Sequence[str], divisor: int = 1) -> list[Plan]:
    """Return images as a deployment has them, one in each of these repositories.

    Three layers are in all of them, a fourth is one of 15, and two are of the
    image's own. ``divisor`` makes the layers smaller.
    """
    base = tuple(Layer(f"base-{size}", size * MB // divisor) for size in (60, 30, 10))
    sizes = random.Random("sizes")  # noqa: S311
    plans = []
    for number, name in enumerate(names):
        group = Layer(f"group-{number % 15}", 8 * MB // divisor)
        own = Layer(f"own-{number}", sizes.randint(200, 2100) * KB // divisor)
        small = Layer(f"small-{number}", 20 * KB)
        plans.append(Plan(name, (*base, group, own, small)))
    return plans


def layers(name: str, count: int, size: int) -> Plan:
    """Return an image of ``count`` layers of ``size`` bytes each."""
    return Plan(name, tuple(Layer(f"{name}-{number}", size) for number in range(count)))


def noise(name: str, size: int) -> Iterator[bytes]:
    """Yield ``size`` bytes that do not compress, the same for the same name."""
    source = random.Random(name)  # noqa: S311
    while size > 0:
        chunk = source.randbytes(min(size, MB))
        size -= len(chunk)
        yield chunk


def tar(layer: Layer) -> Iterator[bytes]:
    """Yield the bytes of a layer: a tar with one file."""
    entry = tarfile.TarInfo(f"{layer.name}.bin")
    entry.size = layer.size
    yield entry.tobuf(tarfile.USTAR_FORMAT)
    yield from noise(layer.name, layer.size)
    yield bytes(-layer.size % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)


class Registry:
    """Pushes plans into a registry, once: what was pushed is written into a file.

    ``address`` is the registry's, ``record`` the file.
    """

    def __init__(self, address: str, record: Path) -> None:
        self._address = address
        self._record = record
        self._session = requests.Session()
        self._pushed: dict[Layer, tuple[str, Blob, str]] = {}
        self._known: dict[str, Any] = {"version": _VERSION, "images": {}}
        if record.exists():
            known = json.loads(record.read_bytes())
            if known["version"] == _VERSION:
                self._known = known

    def push(self, plan: Plan) -> list[Pushed]:
        """Push an image under all its tags, unless it is there; return one for each tag."""
        key = hashlib.sha256(repr(plan).encode()).hexdigest()
        known = self._known["images"]
        if key not in known:
            known[key] = self._push(plan)
            self._record.write_text(json.dumps(self._known))
        found = known[key]
        blobs = tuple(Blob(*blob) for blob in found["blobs"])
        return [Pushed(plan.name, tag, found["digest"], blobs) for tag in plan.tags]

    def _push(self, plan: Plan) -> dict[str, Any]:
        described = [self._layer(plan.name, layer) for layer in plan.layers]
        fields = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"name": plan.name}},
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in described]},
        }
        config = self._upload(plan.name, iter([json.dumps(fields).encode()]))
        types = [media_types.DOCKER_CONFIG] + [media_types.DOCKER_LAYER_GZIP] * len(described)
        blobs = [config, *(blob for blob, _ in described)]
        descriptors = [
            {"mediaType": kind, "digest": blob.digest, "size": blob.size}
            for kind, blob in zip(types, blobs, strict=True)
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": media_types.DOCKER_MANIFEST,
            "config": descriptors[0],
            "layers": descriptors[1:],
        }
        content = json.dumps(manifest).encode()
        for tag in plan.tags:
            self._session.put(
                self._url(plan.name, f"manifests/{tag}"),
                data=content,
                headers={"Content-Type": media_types.DOCKER_MANIFEST},
                timeout=_TIMEOUT,
            ).raise_for_status()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return {"digest": digest, "blobs": [dataclasses.astuple(blob) for blob in blobs]}

    def _layer(self, name: str, layer: Layer) -> tuple[Blob, str]:
        """Push a layer, or mount it from where it is; return it with its diff_id."""
        if layer in self._pushed:
            source, blob, diff_id = self._pushed[layer]
            self._session.post(
                self._url(name, "blobs/uploads/"),
                params={"mount": blob.digest, "from": source},
                timeout=_TIMEOUT,
            ).raise_for_status()
            return blob, diff_id
        plain = hashlib.sha256()

        def packed() -> Iterator[bytes]:
            # Noise does not compress, and storing it is fast.
            packer = zlib.compressobj(level=0, wbits=31)
            for chunk in tar(layer):
                plain.update(chunk)
                yield packer.compress(chunk)
            yield packer.flush()

        blob = self._upload(name, packed())
        diff_id = f"sha256:{plain.hexdigest()}"
        self._pushed[layer] = name, blob, diff_id
        return blob, diff_id

    def _upload(self, name: str, chunks: Iterator[bytes]) -> Blob:
        """Upload a blob in chunks (OCI distribution-spec 1.1, "Pushing Blobs")."""
        hashed, size = hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for chunk in filter(None, chunks):
                hashed.update(chunk)
                size += len(chunk)
                yield chunk

        start = self._session.post(self._url(name, "blobs/uploads/"), timeout=_TIMEOUT)
        start.raise_for_status()
        sent = self._session.patch(start.headers["Location"], data=counted(), timeout=_TIMEOUT)
        sent.raise_for_status()
        digest = f"sha256:{hashed.hexdigest()}"
        self._session.put(
            sent.headers["Location"], params={"digest": digest}, timeout=_TIMEOUT
        ).raise_for_status()
        return Blob(digest, size)

    def _url(self, name: str, path: str) -> str:
        return f"http://{self._address}/v2/{name}/{path}"
