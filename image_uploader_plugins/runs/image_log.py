# SPDX-License-Identifier: Apache-2.0
"""Putting down what becomes of an image while it is copied."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from image_uploader_plugins import media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.runs.records import (
    BlobRecord,
    ChildRecord,
    ImageRecord,
    Kind,
    Outcome,
    Status,
)


class ImageLog:
    """Keeps ``record``; its blobs may come from several threads."""

    def __init__(self, record: ImageRecord) -> None:
        self._record = record
        self._lock = threading.Lock()
        self._blobs: set[str] = set()
        self._to_come: dict[str, list[ChildRecord]] = {}

    def blob(self, blob: Descriptor, kind: Kind, outcome: Outcome, why: str | None = None) -> None:
        """Note what became of a blob; the first note counts, as images of a list share blobs."""
        with self._lock:
            if blob.digest.value not in self._blobs:
                self._blobs.add(blob.digest.value)
                self._record.blobs.append(BlobRecord.of(blob, kind, outcome, why))

    def list_children(self, index: Manifest, wanted: Iterable[Descriptor], why_not: str) -> None:
        """Note that the image is a list, which of its children are wanted, and why others not."""
        to_come = {child.digest for child in wanted}
        for child in index.manifests:
            record = ChildRecord.of(child)
            self._record.children.append(record)
            if child.media_type not in media_types.MANIFEST_TYPES:
                record.become(Status.SKIPPED, "a manifest of a type that is unknown here")
            elif child.digest not in to_come:
                record.become(Status.SKIPPED, why_not)
            else:
                self._to_come.setdefault(record.digest, []).append(record)

    def settle_child(self, digest: Digest, status: Status) -> None:
        """Note what became of a child; a digest that is no child is ignored."""
        for record in self._to_come.pop(str(digest), ()):
            record.become(status)

    def fail_child(self, error: Exception) -> None:
        """Note that the next child failed, which is the one at work: they are copied in order."""
        for records in list(self._to_come.values())[:1]:
            for record in records:
                record.become(Status.FAILED, str(error))
