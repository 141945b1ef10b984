# SPDX-License-Identifier: Apache-2.0
"""Copying one image from a source to a driver."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.blob_transfer import BlobCopier
from image_uploader_plugins.copying.image_walk import chosen_image, fetch, walk
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.copying.signature_walk import signatures
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.runs.image_log import ImageLog
from image_uploader_plugins.runs.records import ImageRecord, Status
from image_uploader_plugins.sources.source import Source


class Copier:
    """Copies one image into repository ``target`` of ``driver``.

    ``record`` says what became of it; ``meter`` is told of the bytes while they
    come, and may stop the copying.  ``settled`` are manifests that were copied
    there before in the same run, to which it adds.
    """

    def __init__(
        self,
        driver: UploaderDriver,
        target: RepositoryName,
        source: Source,
        record: ImageRecord | None = None,
        meter: Meter | None = None,
        options: CopyOptions | None = None,
        *,
        settled: set[Digest] | None = None,
    ) -> None:
        self._settled = set() if settled is None else settled
        self._options = options or CopyOptions()
        self._driver = driver
        self._target = target
        self._source = source
        self._meter = meter or Meter()
        self.record = record or ImageRecord("", "")
        self._log = ImageLog(self.record)
        self._blobs = BlobCopier(driver, target, source, self._log, self._meter, self._options)

    def copy(
        self, reference: Tag | Digest | Descriptor, tag: Tag | None, *, all_platforms: bool
    ) -> Manifest:
        """Copy the image under ``reference`` and call it ``tag``; return its manifest.

        An index is copied whole with ``all_platforms``, or where its digest
        was asked for, since clients pull by that digest; otherwise only its
        linux/amd64 image is copied, or its first. Raises UploaderErrors.
        """
        if isinstance(reference, Descriptor):
            manifest, digest = fetch(self._source, reference), reference.digest
        else:
            manifest = self._source.manifest(reference)
            digest = (
                reference if isinstance(reference, Digest) else manifest.told or manifest.digest
            )
        if manifest.is_index and not all_platforms and isinstance(reference, Tag):
            chosen = chosen_image(manifest, self._target)
            manifest, digest = fetch(self._source, chosen), chosen.digest
        copied = self._copy(manifest, digest, tag)
        if self._options.signatures:
            self._copy_signatures(copied)
        return manifest

    def _copy_signatures(self, copied: Sequence[Digest]) -> None:
        for tag, descriptor in signatures(self._source, copied, self._meter, self._target):
            manifest = fetch(self._source, descriptor)
            for part, name in walk(self._source, manifest, descriptor.digest):
                self._copy_part(part, name, tag if name == descriptor.digest else None)
            self.record.signatures.append(str(tag or descriptor.digest))

    def _copy(self, manifest: Manifest, digest: Digest, tag: Tag | None) -> list[Digest]:
        """Copy an image whole; return the digests of its manifests."""
        copied = []
        if manifest.is_index:
            self._log.list_children(manifest, self._source.children(manifest))
        status = Status.UNCHANGED
        try:
            for part, name in walk(self._source, manifest, digest):
                # The last of all has the tag: it then leads to all of them at once.
                put, done = self._copy_part(part, name, tag if name == digest else None)
                self._log.settle_child(name, done)
                status = done if done is Status.COPIED else status
                copied.append(name)
        except Exception as e:
            self._log.fail_child(e)
            raise
        self.record.digest, self.record.media_type = str(put.digest), put.media_type
        self.record.become(status)
        return copied

    def _copy_part(
        self, part: Manifest, name: Digest, tag: Tag | None
    ) -> tuple[Descriptor, Status]:
        """Copy one manifest with its blobs; return it, and whether that changed anything."""
        before = None
        with contextlib.suppress(errors.UploaderError):  # what is broken is about to be mended
            before = self._driver.resolve(ImageRef(self._target, tag or name))
        if tag is None and before == name and name in self._settled:
            return Descriptor(part.media_type, name, len(part.content)), Status.UNCHANGED
        whole = self._blobs.copy(part)
        # NOTE: the digest of a signed schema 1 manifest is not that of its bytes.
        expected = None if part.media_type in media_types.SCHEMA1_TYPES else name
        put = self._driver.put_manifest(
            self._target, part.content, part.media_type, tag=tag, expected=expected
        )
        if part.is_index:
            children = self._source.children(part)
            copied = {
                child.digest for child in children if child.media_type in media_types.MANIFEST_TYPES
            }
            listed = {child.digest for child in part.manifests}
            self._driver.leave_out(self._target, name, listed - copied)
        self._settled.add(name)
        return put, Status.UNCHANGED if whole and before == put.digest else Status.COPIED
