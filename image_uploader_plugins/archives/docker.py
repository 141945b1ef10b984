"""What ``docker save`` and ``podman save --format docker-archive`` write.

manifest.json lists images by config, names and layers, the latter as tars.
There is no manifest that a registry could serve, so one is made here: Docker
schema 2, since the config is Docker's, with each layer as it lies in the
archive.  An uncompressed layer's digest is its diff_id, which the config
vouches for, so the manifest is the same whoever saved the image; compressed,
it would depend on the compressor.  It differs from that of the registry the
image came from, which docker does not save.

Source: Docker "Image Specification v1.2", "Combined Image JSON + Filesystem
Changeset Format".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from image_uploader_plugins import document, errors, manifest
from image_uploader_plugins.archives import gzip
from image_uploader_plugins.archives.files import Files
from image_uploader_plugins.archives.source import Archive, Entry
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.manifest import SIZE_LIMIT, Descriptor, Manifest

LIST = "manifest.json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"
GZIP_LAYER_TYPE = f"{LAYER_TYPE}.gzip"

_LAYERS_LIMIT = 1000
_NAMES = ("Config", "RepoTags", "Layers")
_CONFIG_NAMES = ("rootfs", "diff_ids")
_SHA256 = re.compile(r"(?:.*/)?(?:sha256:)?([0-9a-f]{64})(?:\.json)?")


class DockerArchive(Archive):
    """A ``docker save`` tar; raises ArchiveInvalid where what it lists is not there, or broken."""

    def __init__(self, files: Files, *, sparse: bool = False) -> None:
        super().__init__(files, sparse=sparse)
        self._places: dict[Digest, str] = {}
        self._made: dict[Digest, bytes] = {}
        self._compressed: dict[str, tuple[Digest, Digest]] = {}
        images = files.load(LIST)
        if not isinstance(images, list):
            raise files.invalid(LIST, "is not what docker save writes")
        for number, fields in enumerate(images, 1):
            try:
                self._add(fields)
            except (errors.ContentMismatch, errors.InvalidReference, errors.ManifestInvalid) as e:
                reason = f"{LIST}, image {number}: {e}"
                raise errors.ArchiveInvalid(files.path, reason) from e

    def place(self, digest: Digest) -> str | None:
        return self._places.get(digest)

    def digests(self) -> Iterator[Digest]:
        return iter(self._places)

    def holds(self, digest: Digest) -> bool:
        return digest in self._made or super().holds(digest)

    def content(self, digest: Digest, limit: int) -> bytes:
        return self._made[digest] if digest in self._made else super().content(digest, limit)

    def _add(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise errors.ManifestInvalid("not an object")
        document.check_names(fields, _NAMES)
        config = self._config(fields.get("Config"))
        layers = fields.get("Layers") or []
        if not isinstance(layers, list) or len(layers) > _LAYERS_LIMIT:
            raise errors.ManifestInvalid(f"'Layers' must be a list of up to {_LAYERS_LIMIT}")
        described = [self._layer(*pair) for pair in self._pairs(layers, config)]
        made = Manifest.parse(_manifest(config, described))
        self._made[made.digest] = made.content
        descriptor = Descriptor(made.media_type, made.digest, len(made.content))
        names = _names(fields)
        self.entries += [Entry(descriptor, name) for name in names] or [Entry(descriptor)]

    def _config(self, name: object) -> bytes:
        cleaned = self.files.clean(name)
        content = self.files.read(cleaned, SIZE_LIMIT)
        match = _SHA256.fullmatch(cleaned)
        if match:
            Digest(f"sha256:{match[1]}").verify(content)
        self._places[Digest.of(content)] = cleaned
        return content

    def _pairs(self, layers: list[object], config: bytes) -> Iterator[tuple[str, Digest]]:
        """Each layer's file, and what it must unpack to."""
        diff_ids = _diff_ids(config)
        if len(diff_ids) != len(layers):
            raise errors.ManifestInvalid(
                f"{len(layers)} layers, and a config that names {len(diff_ids)}"
            )
        for name, diff_id in zip(layers, diff_ids, strict=True):
            yield self.files.clean(name), Digest(diff_id)

    def _layer(self, name: str, diff_id: Digest) -> Descriptor:
        size = self.files.size(name)
        if size is None:
            raise self.files.invalid(name, "is missing")
        # NOTE: docker never compresses them, other tools do.
        head = next(self.files.chunks(name), b"")
        if not head.startswith(gzip.MAGIC):
            self._places[diff_id] = name
            return Descriptor(LAYER_TYPE, diff_id, size)
        if name not in self._compressed:
            self._compressed[name] = self._measure(name, gzip.bound(size))
        digest, unpacked = self._compressed[name]
        if unpacked != diff_id:
            raise errors.DigestMismatch(diff_id, unpacked)
        self._places[digest] = name
        return Descriptor(GZIP_LAYER_TYPE, digest, size)

    def _measure(self, name: str, limit: int) -> tuple[Digest, Digest]:
        """A compressed layer's digest, and that of what it unpacks to."""
        packed = VerifiedStream(self.files.chunks(name))
        unpacked = VerifiedStream(gzip.unpacked(packed, limit))
        try:
            for _ in unpacked:
                pass
        except gzip.InvalidGzip as e:
            raise self.files.invalid(name, str(e)) from e
        return packed.digest, unpacked.digest


def _manifest(config: bytes, layers: list[Descriptor]) -> bytes:
    described = [Descriptor(CONFIG_TYPE, Digest.of(config), len(config)), *layers]
    fields = [
        {"mediaType": found.media_type, "size": found.size, "digest": found.digest.value}
        for found in described
    ]
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": manifest.DOCKER_MANIFEST,
            "config": fields[0],
            "layers": fields[1:],
        },
        indent=2,
    ).encode()


def _diff_ids(config: bytes) -> list[str]:
    fields = document.load(config, "config")
    document.check_names(fields, _CONFIG_NAMES)
    rootfs = fields.get("rootfs")
    if not isinstance(rootfs, dict):
        raise errors.ManifestInvalid("the config has no 'rootfs' that names its layers")
    document.check_names(rootfs, _CONFIG_NAMES)
    found = rootfs.get("diff_ids") or []
    if not isinstance(found, list):
        raise errors.ManifestInvalid("the config has 'diff_ids' that are no list")
    return found


def _names(fields: Mapping[str, Any]) -> list[str]:
    found = fields.get("RepoTags") or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise errors.ManifestInvalid("'RepoTags' must be a list of names")
    return found
