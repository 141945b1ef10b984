# SPDX-License-Identifier: Apache-2.0
"""An image in containers-storage, as buildah and podman keep it on this machine."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from image_uploader_plugins import errors, image_config, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import Descriptor, write_image
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.runs.records import BlobRecord, Kind, Outcome

_GZIP = 2  # containers/storage, pkg/archive: type Compression


@dataclasses.dataclass(frozen=True)
class _Family:
    """Media types that belong together: podman refuses a mixture (LP#1860585)."""

    manifest: str
    config: str
    layer: str
    gzipped: str


_DOCKER = _Family(
    media_types.DOCKER_MANIFEST,
    media_types.DOCKER_CONFIG,
    media_types.DOCKER_LAYER,
    media_types.DOCKER_LAYER_GZIP,
)
_OCI = _Family(
    media_types.OCI_MANIFEST,
    media_types.OCI_CONFIG,
    media_types.OCI_LAYER,
    media_types.OCI_LAYER_GZIP,
)


class LocalStorage:
    """The storage that ``find`` leads into: path segments to an existing path.

    ``stream`` yields a layer, by its id and a hash to update, as a gzipped
    tar: tripleo-common's ``_layer_stream_local``.  With ``check_present`` what the
    driver holds is read before it counts.
    """

    def __init__(
        self,
        find: Callable[..., str],
        stream: Callable[[str, Any], Iterator[bytes]],
        *,
        check_present: bool = False,
    ) -> None:
        self._check_present = check_present
        self._find = find
        self._stream = stream

    def upload(
        self, name: str, driver: UploaderDriver, target: RepositoryName, tag: Tag | None
    ) -> tuple[Descriptor, list[BlobRecord]]:
        """Upload the image called ``name``; returns its manifest, and what became of its blobs.

        Its layers lie here unpacked, so each is compressed on the way and
        named by what was written, unless the driver still holds the blob that
        the layer was unpacked from.  Raises ImageUnknown when there is no
        such image, and UploaderErrors.
        """
        stored, config = self._image(name)
        family = _DOCKER if stored["config"]["mediaType"] == _DOCKER.config else _OCI
        entries = self._layers()
        layers: list[Descriptor] = []
        blobs: list[BlobRecord] = []
        diff_ids = image_config.diff_ids(config)
        if diff_ids is None:
            raise errors.ManifestInvalid(f"the config of {name} names no layers")
        for diff_id in diff_ids:
            entry = entries.get(diff_id.value)
            if entry is None:
                raise errors.ImageUnknown(
                    f"layer {diff_id} of {name} is not in local storage", name
                )
            held = self._held(entry, driver, target, family)
            layer = held or self._write(entry, driver, target, family)
            layers.append(layer)
            outcome = Outcome.MOUNTED if held else Outcome.WRITTEN
            blobs.append(BlobRecord.of(layer, Kind.LAYER, outcome))
        digest = Digest(stored["config"]["digest"])
        described = Descriptor(family.config, digest, len(config))
        blobs.append(BlobRecord.of(described, Kind.CONFIG, Outcome.WRITTEN))
        content = write_image(family.manifest, described, layers)
        put = driver.put_manifest(target, content, family.manifest, tag=tag, config=config)
        return put, blobs

    def _image(self, name: str) -> tuple[dict[str, Any], bytes]:
        for image in self._json("overlay-images", "images.json"):
            if name in (image.get("names") or []):
                stored = self._json("overlay-images", image["id"], "manifest")
                # NOTE: containers/storage encodes the keys of its big data like this.
                key = "=" + base64.b64encode(stored["config"]["digest"].encode()).decode()
                path = self._find("overlay-images", image["id"], key)
                return stored, Path(path).read_bytes()
        raise errors.ImageUnknown(f"not in local storage: {name}", name)

    def _layers(self) -> dict[str, dict[str, Any]]:
        layers = self._json("overlay-layers", "layers.json")
        return {layer["diff-digest"]: layer for layer in layers if "diff-digest" in layer}

    def _json(self, *path: str) -> Any:
        return json.loads(Path(self._find(*path)).read_bytes())

    def _held(
        self,
        entry: dict[str, Any],
        driver: UploaderDriver,
        target: RepositoryName,
        family: _Family,
    ) -> Descriptor | None:
        candidates = []
        if entry.get("compression") == _GZIP and entry.get("compressed-size"):
            candidates.append(
                Descriptor(
                    family.gzipped,
                    Digest(entry["compressed-diff-digest"]),
                    entry["compressed-size"],
                )
            )
        if entry.get("diff-size"):
            candidates.append(
                Descriptor(family.layer, Digest(entry["diff-digest"]), entry["diff-size"])
            )
        for candidate in candidates:
            if driver.mount_layers(target, [candidate], check=self._check_present):
                return candidate
        return None

    def _write(
        self,
        entry: dict[str, Any],
        driver: UploaderDriver,
        target: RepositoryName,
        family: _Family,
    ) -> Descriptor:
        chunks = self._stream(entry["id"], hashlib.sha256())
        return driver.upload_layer(target, chunks, media_type=family.gzipped)
