# SPDX-License-Identifier: Apache-2.0
"""One repository as an OCI image layout.

Source: OCI image-spec 1.1, image-layout.md.  Each manifest is an entry of
``index.json``: with its tag in the annotation that the specification has for
it, or without annotations if it was put without a tag.  An annotation of our
own marks those that lost their tag and that the next delete may remove.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from image_uploader_oci_layout import disk
from image_uploader_plugins import errors, strict_json
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.manifest import Descriptor, Manifest, index_fields
from image_uploader_plugins.reference import Tag

REF_NAME = "org.opencontainers.image.ref.name"
UNNAMED = "image-uploader-oci-layout.unnamed"

_CHUNK = 1024 * 1024  # bytes


class Layout:
    """The layout in ``folder``; ``load`` and ``save`` are called under the target's lock."""

    def __init__(self, folder: Path, staging: Path) -> None:
        self.manifests: dict[Digest, Descriptor] = {}
        self.tags: dict[Tag, Digest] = {}
        self.pins: set[Digest] = set()
        self._folder = folder
        self._staging = staging

    def blob(self, digest: Digest) -> Path:
        return self._folder / "blobs" / digest.algorithm / digest.encoded

    def blobs(self) -> Iterator[Digest]:
        """Yield the digests that files here are named after."""
        for path in sorted(self._folder.glob("blobs/*/*")):
            with contextlib.suppress(errors.InvalidReference):
                yield Digest(f"{path.parent.name}:{path.name}")

    def holds(self, digest: Digest) -> bool:
        """Return whether an intact copy is here; reads all of it."""
        try:
            with self.blob(digest).open("rb") as file:
                for _ in VerifiedStream(iter(lambda: file.read(_CHUNK), b""), digest):
                    pass
        except (OSError, errors.DigestMismatch):
            return False
        return True

    def size(self, digest: Digest) -> int | None:
        """Return the bytes of a blob; None where there is no such blob."""
        path = self.blob(digest)
        with disk.errors_at(path):
            return path.stat().st_size if path.exists() else None

    def read(self, digest: Digest) -> Manifest:
        """Return a manifest; raises ManifestInvalid or StorageError where it is damaged."""
        path = self.blob(digest)
        with disk.errors_at(path):
            content = path.read_bytes()
        try:
            digest.verify(content)
        except errors.DigestMismatch as e:
            raise errors.ManifestInvalid(f"{path}: {e}") from e
        return Manifest.parse(content, self.manifests[digest].media_type)

    def load(self) -> None:
        """Read the index, if there is one; raises ManifestInvalid where it is damaged."""
        path = self._folder / "index.json"
        with disk.errors_at(path):
            fields = strict_json.load(path.read_bytes()) if path.exists() else {}
        for entry in fields.get("manifests") or []:
            described = Descriptor.parse(entry)
            annotations = entry.get("annotations") or {}
            self.manifests[described.digest] = described
            if REF_NAME in annotations:
                self.tags[Tag(annotations[REF_NAME])] = described.digest
            elif UNNAMED not in annotations:
                self.pins.add(described.digest)

    def save(self) -> None:
        """Write the index, whole: this is the moment at which names change."""
        version = self._folder / "oci-layout"
        if not version.exists():
            self._write(version, {"imageLayoutVersion": "1.0.0"})
        self._write(self._folder / "index.json", index_fields(self._entries()))

    def _entries(self) -> Iterator[dict[str, Any]]:
        for digest, manifest in sorted(self.manifests.items()):
            entry = manifest.as_dict()
            tags = sorted(str(tag) for tag, tagged in self.tags.items() if tagged == digest)
            names = [{REF_NAME: tag} for tag in tags] + [{}] * (digest in self.pins)
            for notes in names or [{UNNAMED: "true"}]:
                yield entry | ({"annotations": notes} if notes else {})

    def _write(self, path: Path, fields: dict[str, Any]) -> None:
        with disk.staged(self._staging, [json.dumps(fields, indent=2).encode()]) as temporary:
            disk.publish(temporary, path)
