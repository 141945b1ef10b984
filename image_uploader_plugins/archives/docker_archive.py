# SPDX-License-Identifier: Apache-2.0
"""Archives of ``docker save`` and ``podman save --format docker-archive``.

manifest.json lists images by config, names and layers, the latter as tars.
There is no manifest that a registry could serve, so one is made here: Docker
schema 2, since the config is Docker's, with each layer as it lies in the
archive. The digest of an uncompressed layer is its diff_id, which is in the
config, so the manifest is always the same. With compression, it would depend on
the compressor. It differs from the manifest in the image's registry, which
docker does not save.

Source: Docker "Image Specification v1.2", "Combined Image JSON + Filesystem
Changeset Format".
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple

from image_uploader_plugins import errors, image_config, media_types, strict_json
from image_uploader_plugins.archives.archive import Archive, Entry
from image_uploader_plugins.archives.archive_files import Files
from image_uploader_plugins.archives.budget import Exceeded
from image_uploader_plugins.archives.compression import Compression, InvalidCompression
from image_uploader_plugins.archives.names import named
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.manifest import SIZE_LIMIT, Descriptor, Manifest, write_image

LIST = "manifest.json"
_LAYERS_LIMIT = 1000
_MANIFESTS_LIMIT = 64 * 1024**2  # bytes of those that are made here
_NAMES = frozenset({"Config", "RepoTags", "Layers"})
_SHA256 = re.compile(r"(?:.*/)?(?:sha256:)?([0-9a-f]{64})(?:\.json)?")


class DockerArchive(Archive):
    """A ``docker save`` tar; raises ArchiveInvalid where what it lists is not there, or broken."""

    def __init__(self, files: Files, *, sparse: bool = False) -> None:
        super().__init__(files, sparse=sparse)
        self._places: dict[Digest, str] = {}
        self._made: dict[Digest, bytes] = {}
        self._room = _MANIFESTS_LIMIT
        # By identity, since thousands of names may lead to one file.
        self._seen: dict[Hashable, Compression | None] = {}
        self._compressed: dict[Hashable, tuple[Digest, Digest]] = {}
        self._configs: dict[Hashable, _Config] = {}
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
        strict_json.check_names(fields, _NAMES)
        config = self._config(fields.get("Config"))
        layers = fields.get("Layers") or []
        if not isinstance(layers, list) or len(layers) > _LAYERS_LIMIT:
            raise errors.ManifestInvalid(f"'Layers' must be a list of up to {_LAYERS_LIMIT}")
        if len(layers) != len(config.diff_ids):
            raise errors.ManifestInvalid(
                f"lists {len(layers)} layers, and its config names {len(config.diff_ids)}"
            )
        described = [
            self._layer(self.files.clean(name), diff_id)
            for name, diff_id in zip(layers, config.diff_ids, strict=True)
        ]
        content = write_image(media_types.DOCKER_MANIFEST, config.descriptor, described)
        self._room -= len(content)
        if self._room < 0:
            raise errors.ManifestInvalid(f"manifests take more than {_MANIFESTS_LIMIT} bytes")
        made = Manifest.parse(content)
        self._made[made.digest] = made.content
        descriptor = Descriptor(made.media_type, made.digest, len(made.content))
        for entry in [Entry(descriptor, name) for name in _names(fields)] or [Entry(descriptor)]:
            self.add(entry)

    def _config(self, name: object) -> _Config:
        cleaned = self.files.clean(name)
        identity = self.files.identity(cleaned)
        if identity not in self._configs:
            content = self.files.read(cleaned, SIZE_LIMIT)
            digest = Digest.of(content)
            self._places[digest] = cleaned
            diff_ids = image_config.diff_ids(content)
            if diff_ids is None:
                raise errors.ManifestInvalid("the config has no 'rootfs' that names its layers")
            descriptor = Descriptor(media_types.DOCKER_CONFIG, digest, len(content))
            self._configs[identity] = _Config(descriptor, diff_ids)
        found = self._configs[identity]
        match = _SHA256.fullmatch(cleaned)
        if match and match[1] != found.descriptor.digest.encoded:
            raise errors.DigestMismatch(f"sha256:{match[1]}", found.descriptor.digest)
        return found

    def _layer(self, name: str, diff_id: Digest) -> Descriptor:
        size = self.files.size(name)
        if size is None:
            raise self.files.invalid(name, "is missing")
        compression = self._compression(name)
        if not compression:
            self._places[diff_id] = name
            return Descriptor(media_types.DOCKER_LAYER, diff_id, size)
        if compression.name != "gzip":
            reason = (
                f"is compressed with {compression.name}, for which a Docker manifest has no type: "
                "let podman load and save it"
            )
            raise self.files.invalid(name, reason)
        digest, unpacked = self._measured(name, compression)
        if unpacked != diff_id:
            raise errors.DigestMismatch(diff_id, unpacked)
        self._places[digest] = name
        return Descriptor(media_types.DOCKER_LAYER_GZIP, digest, size)

    def _compression(self, name: str) -> Compression | None:
        """Return how a layer is compressed, None where it is not.

        NOTE: docker never compresses layers here, other tools do.
        """
        identity = self.files.identity(name)
        if identity not in self._seen:
            self._seen[identity] = Compression.of(next(self.files.chunks(name), b""))
        return self._seen[identity]

    def _measured(self, name: str, compression: Compression) -> tuple[Digest, Digest]:
        """Return a compressed layer's digest, and that of what it unpacks to."""
        identity = self.files.identity(name)
        if identity not in self._compressed:
            packed = VerifiedStream(self.files.chunks(name))
            unpacked = VerifiedStream(compression.unpacked(packed, self.files.budget))
            try:
                for _ in unpacked:
                    pass
            except (Exceeded, InvalidCompression) as e:
                raise self.files.invalid(name, str(e)) from e
            self._compressed[identity] = packed.digest, unpacked.digest
        return self._compressed[identity]


class _Config(NamedTuple):
    """An image's config, and the digests of its layers when they are unpacked."""

    descriptor: Descriptor
    diff_ids: tuple[Digest, ...]


def _names(fields: Mapping[str, Any]) -> list[str]:
    found = fields.get("RepoTags") or []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise errors.ManifestInvalid("'RepoTags' must be a list of names")
    return [name for name in found if named(name)]
