# SPDX-License-Identifier: Apache-2.0
"""Copying one image from a source to a driver."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.blob_transfer import BlobCopier
from image_uploader_plugins.copying.held_images import HeldImages, Part
from image_uploader_plugins.copying.image_walk import (
    Manifests,
    chosen_image,
    fetch,
    left_behind,
    walk,
)
from image_uploader_plugins.copying.platform_choice import PlatformChoice
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.copying.signature_walk import signatures
from image_uploader_plugins.copying.transfers import Transfers
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import Descriptor, Manifest, Platform
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.runs.image_log import ImageLog
from image_uploader_plugins.runs.records import ImageRecord, Status
from image_uploader_plugins.sources.source import Source


class Copier:
    """Copies one image into repository ``target`` of ``driver``.

    ``record`` says what became of it; ``meter`` is told of the bytes while they
    come, and may stop the copying.  ``settled`` are manifests that were copied
    there before in the same run, to which it adds; ``transfers`` are those of
    all images of the run.  Once a plan has warned of platforms that are
    missing, that is ``told``.
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
        transfers: Transfers | None = None,
    ) -> None:
        self.told = False
        self._settled = set() if settled is None else settled
        self._options = options or CopyOptions()
        self._driver = driver
        self._target = target
        self._name: object = target
        self._source = source
        self._meter = meter or Meter()
        self.record = record or ImageRecord("", "")
        self._log = ImageLog(self.record)
        self._blobs = BlobCopier(
            driver,
            target,
            source,
            self._log,
            self._meter,
            self._options,
            transfers=transfers,
        )
        self._image = PlatformChoice(source, self._options.platforms)
        self._held = HeldImages(driver, target, self._image, self._blobs.has_foreign)
        # What signs an image is copied whole, index or not.
        self._held_signatures = HeldImages(driver, target, source, self._blobs.has_foreign)

    def copy(
        self, reference: Tag | Digest | Descriptor, tag: Tag | None, *, all_platforms: bool
    ) -> Manifest:
        """Copy the image under ``reference`` and call it ``tag``; return its manifest.

        An index is copied with the platforms that the options choose, or else
        whole with ``all_platforms``, or where its digest was asked for, since
        clients pull by that digest; otherwise only its linux/amd64 image is
        copied, or its first. Raises UploaderErrors.
        """
        named = reference.digest if isinstance(reference, Descriptor) else reference
        self._name = ImageRef(self._target, tag or named)
        keeps_index = all_platforms or bool(self._options.platforms)
        one_platform = isinstance(reference, Tag) and not keeps_index
        held = self._described(reference, tag, one_platform=one_platform)
        if not held:
            manifest, digest = self._fetched(reference)
            if manifest.is_index and one_platform:
                chosen = chosen_image(manifest, self._target)
                held = self._whole(chosen, tag)
                if not held:
                    manifest, digest = fetch(self._source, chosen), chosen.digest
        copied = self._leave(held) if held else self._copy(manifest, digest, tag)
        if self._options.signatures:
            self._copy_signatures(copied)
        return held[-1].manifest if held else manifest

    def _described(
        self, reference: Tag | Digest | Descriptor, tag: Tag | None, *, one_platform: bool
    ) -> list[Part]:
        """Return what the target has whole of an image, if the source says that it is the same."""
        if isinstance(reference, Descriptor) or not self._resolved(tag or reference):
            return []
        described = self._source.describe(reference)
        if not described or (isinstance(reference, Digest) and described.digest != reference):
            return []
        held = self._whole(described, tag)
        return [] if one_platform and held and held[-1].manifest.is_index else held

    def _fetched(self, reference: Tag | Digest | Descriptor) -> tuple[Manifest, Digest]:
        if isinstance(reference, Descriptor):
            return fetch(self._source, reference), reference.digest
        manifest = self._source.manifest(reference)
        if isinstance(reference, Digest):
            return manifest, reference
        return manifest, manifest.told or manifest.digest

    def _leave(self, held: Sequence[Part]) -> list[Digest]:
        """Note that the target has an image whole; return the digests of its manifests."""
        top = held[-1].manifest
        self._note_children(top)
        self._note_platforms(part.manifest for part in held)
        self._note(held)
        self.record.digest, self.record.media_type = str(held[-1].digest), top.media_type
        self.record.become(Status.UNCHANGED)
        return [part.digest for part in held]

    def _note(self, held: Sequence[Part]) -> None:
        for part in held:
            self._blobs.note_present(part.manifest)
            self._log.settle_child(part.digest, Status.UNCHANGED)

    def _note_children(self, top: Manifest) -> None:
        if top.is_index:
            self._log.list_children(top, self._image.children(top), self._image.why_not)

    def _note_platforms(self, parts: Iterable[Manifest]) -> None:
        """Note which platforms are missing; raises ImageUnknown where none is there."""
        tell = self._image.missing if self.told else self._warn_of_missing
        missing = tell(parts)
        self.record.missing_platforms = list(map(str, missing))

    def _warn_of_missing(self, parts: Iterable[Manifest]) -> Sequence[Platform]:
        return self._image.warn_of_missing(parts, self._name)

    def _copy_signatures(self, copied: Sequence[Digest]) -> None:
        found = signatures(
            self._source,
            copied,
            self._meter,
            self._target,
            self._is_held,
            self._options.artifact_types,
        )
        for tag, descriptor in found:
            if held := self._whole(descriptor, tag, self._held_signatures):
                self._note(held)
            else:
                manifest = fetch(self._source, descriptor)
                for part, name in walk(self._source, manifest, descriptor.digest):
                    named = tag if name == descriptor.digest else None
                    self._copy_part(part, name, named, self._source)
            self.record.signatures.append(str(tag or descriptor.digest))

    def _is_held(self, tag: Tag | None, descriptor: Descriptor) -> bool:
        return bool(self._whole(descriptor, tag, self._held_signatures))

    def _whole(
        self, described: Descriptor, tag: Tag | None, held: HeldImages | None = None
    ) -> list[Part]:
        # What content is, without its being read, is not known from its name.
        return [] if self._options.check_present else (held or self._held).image(described, tag)

    def _resolved(self, reference: Tag | Digest) -> Digest | None:
        """Return what a name leads to in the target."""
        with contextlib.suppress(errors.UploaderError):  # what is broken is about to be mended
            return self._driver.resolve(ImageRef(self._target, reference))
        return None

    def _copy(self, manifest: Manifest, digest: Digest, tag: Tag | None) -> list[Digest]:
        """Copy an image whole; return the digests of its manifests."""
        copied: dict[Digest, Manifest] = {}
        self._note_children(manifest)
        status = Status.UNCHANGED
        try:
            for part, name in walk(self._image, manifest, digest):
                if name == digest:
                    self._note_platforms([*copied.values(), part])
                # The last of all has the tag: it then leads to all of them at once.
                named = tag if name == digest else None
                put, done = self._copy_part(part, name, named, self._image)
                self._log.settle_child(name, done)
                status = done if done is Status.COPIED else status
                copied[name] = part
        except Exception as e:
            self._log.fail_child(e)
            raise
        self.record.digest, self.record.media_type = str(put.digest), put.media_type
        self.record.become(status)
        if config := self._blobs.config(manifest):
            self._image.warn_of_other(config, self._name)
        return list(copied)

    def _copy_part(
        self, part: Manifest, name: Digest, tag: Tag | None, source: Manifests
    ) -> tuple[Descriptor, Status]:
        """Copy one manifest with its blobs; return it, and whether that changed anything.

        ``source`` says which children of an index are copied, too.
        """
        before = self._resolved(tag or name)
        if tag is None and before == name and name in self._settled:
            return Descriptor(part.media_type, name, len(part.content)), Status.UNCHANGED
        whole = self._blobs.copy(part)
        # NOTE: the digest of a signed schema 1 manifest is not that of its bytes.
        expected = None if part.media_type in media_types.SCHEMA1_TYPES else name
        put = self._driver.put_manifest(
            self._target, part.content, part.media_type, tag=tag, expected=expected
        )
        if part.is_index:
            # What an earlier choice of platforms has brought stays, and is to stay whole.
            left = {d for d in left_behind(source, part) if not self._resolved(d)}
            self._driver.leave_out(self._target, name, left)
        self._settled.add(name)
        return put, Status.UNCHANGED if whole and before == put.digest else Status.COPIED
