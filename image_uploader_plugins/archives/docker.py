"""What ``docker save`` and ``podman save --format docker-archive`` write.

manifest.json lists images by config, names and layers, the latter as tars.
There is no manifest that a registry could serve, so one is made here: Docker
schema 2, with each layer as it lies in the archive.  An uncompressed layer's
digest is its diff_id, so the manifest is the same whoever saved the image,
and differs from that of the registry the image came from.

Source: Docker "Image Specification v1.2", "Combined Image JSON + Filesystem
Changeset Format".
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from image_uploader_plugins import errors, manifest
from image_uploader_plugins.archives.files import Files
from image_uploader_plugins.archives.source import Archive, Entry, load
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.manifest import SIZE_LIMIT, Descriptor, Manifest
from image_uploader_plugins.source import UNKNOWN_SIZE_LIMIT

LIST = "manifest.json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"
GZIP_LAYER_TYPE = f"{LAYER_TYPE}.gzip"

_GZIP = b"\x1f\x8b"
_LAYERS_LIMIT = 1000
_SHA256 = re.compile(r"(?:.*/)?(?:sha256:)?([0-9a-f]{64})(?:\.json)?")
_PIECE = 1024 * 1024


class DockerArchive(Archive):
    """A ``docker save`` tar; raises ArchiveInvalid where manifest.json cannot be read."""

    def __init__(self, files: Files, *, sparse: bool = False) -> None:
        super().__init__(files, sparse=sparse)
        self._places: dict[Digest, str] = {}
        self._made: dict[Digest, bytes] = {}
        self._compressed: dict[str, tuple[Digest, Digest]] = {}
        images = load(files, LIST)
        if not isinstance(images, list):
            raise files.invalid(LIST, "is not what docker save writes")
        for number, fields in enumerate(images):
            try:
                self._add(fields)
            except errors.UploaderError as e:
                self.problems.append((_label(fields, number), e))

    def place(self, digest: Digest) -> str | None:
        return self._places.get(digest)

    def holds(self, digest: Digest) -> bool:
        return digest in self._made or super().holds(digest)

    def content(self, digest: Digest, limit: int) -> bytes:
        return self._made[digest] if digest in self._made else super().content(digest, limit)

    def _add(self, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise self.files.invalid(LIST, "lists what is no image")
        config = self._config(fields.get("Config"))
        layers = fields.get("Layers") or []
        if not isinstance(layers, list) or len(layers) > _LAYERS_LIMIT:
            raise self.files.invalid(LIST, f"must list up to {_LAYERS_LIMIT} layers an image")
        described = [self._layer(*pair) for pair in self._pairs(layers, config)]
        made = Manifest.parse(_manifest(config, described))
        self._made |= {made.digest: made.content, Digest.of(config): config}
        descriptor = Descriptor(made.media_type, made.digest, len(made.content))
        for name in _names(fields) or [None]:
            self.entries.append(Entry(descriptor, name))

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
        if not head.startswith(_GZIP):
            self._places[diff_id] = name
            return Descriptor(LAYER_TYPE, diff_id, size)
        if name not in self._compressed:
            self._compressed[name] = self._measure(name, diff_id.algorithm)
        digest, unpacked = self._compressed[name]
        if unpacked != diff_id:
            raise self.files.invalid(name, f"unpacks to {unpacked}, expected {diff_id}")
        self._places[digest] = name
        return Descriptor(GZIP_LAYER_TYPE, digest, size)

    def _measure(self, name: str, algorithm: str) -> tuple[Digest, Digest]:
        """A compressed layer's digest, and that of what it unpacks to."""
        packed = VerifiedStream(self.files.chunks(name))
        unpacked = VerifiedStream(_unpacked(packed), size=None)
        try:
            for _ in unpacked:
                if unpacked.size > UNKNOWN_SIZE_LIMIT:
                    raise self.files.invalid(name, f"unpacks to over {UNKNOWN_SIZE_LIMIT} bytes")
        except (EOFError, zlib.error) as e:
            raise self.files.invalid(name, f"is not intact gzip ({e})") from e
        return packed.digest, unpacked.digest


def _unpacked(packed: VerifiedStream) -> Iterator[bytes]:
    """What gzip packed, in pieces of at most 1 MiB, however well it was packed."""
    unpacker = zlib.decompressobj(wbits=31)
    for chunk in packed:
        rest = chunk
        while rest:
            if unpacker.eof:  # RFC 1952: a file may have several members
                unpacker = zlib.decompressobj(wbits=31)
            yield unpacker.decompress(rest, _PIECE)
            rest = unpacker.unconsumed_tail or unpacker.unused_data
    if not unpacker.eof:
        raise EOFError("it ends too early")


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
    try:
        found = json.loads(config.decode("utf-8"))["rootfs"]["diff_ids"] or []
    except (LookupError, RecursionError, TypeError, ValueError) as e:
        raise errors.ManifestInvalid("the config does not name its layers (rootfs.diff_ids)") from e
    if not isinstance(found, list):
        raise errors.ManifestInvalid("the config's rootfs.diff_ids must be a list")
    return found


def _names(fields: Mapping[str, Any]) -> list[str | None]:
    found = fields.get("RepoTags")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _label(fields: Any, number: int) -> str:
    names = _names(fields) if isinstance(fields, dict) else []
    return names[0] if names and names[0] else f"image {number} of {LIST}"
