# SPDX-License-Identifier: Apache-2.0
"""The blobs of an image on their way, several at once."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping

from image_uploader_plugins import errors, image_config
from image_uploader_plugins.copying.image_walk import naming
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.copying.transfers import Transfer, Transfers, shared
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Content, UploaderDriver
from image_uploader_plugins.manifest import SIZE_LIMIT, Descriptor, Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.runs.image_log import ImageLog
from image_uploader_plugins.runs.records import NEVER_BEGUN, Kind, Outcome
from image_uploader_plugins.sources.source import Source
from image_uploader_plugins.sources.tries import Tries


class _BlobContent(Content):
    """One blob's bytes; ``meter`` is told what comes, and of what is still to come.

    ``begun`` says whether anybody asked for them.  With ``kept`` those that
    come are kept there, too.
    """

    def __init__(
        self,
        source: Source,
        blob: Descriptor,
        meter: Meter,
        transfer: Transfer,
        kept: bytearray | None = None,
    ) -> None:
        self._source = source
        self._blob = blob
        self._meter = meter
        self._transfer = transfer
        self._expected = blob.size or 0
        self._kept = kept
        self.begun = False

    def expect(self, count: int) -> None:
        """Tell the meter that so many bytes are still to come."""
        self._meter.expect(count - self._expected)
        self._expected = count

    def start_at(self, offset: int) -> Iterator[bytes]:
        self._meter.check()
        self.expect(max(0, (self._blob.size or 0) - offset))
        self.begun = True
        if self._kept is not None:
            del self._kept[offset:]
        for chunk in self._source.blob(self._blob, offset):
            self._meter.add(len(chunk))
            self._transfer.received += len(chunk)
            self._expected -= len(chunk)
            if self._kept is not None:
                self._kept += chunk
            yield chunk


class BlobCopier:
    """Copies the blobs of manifests into repository ``target`` of ``driver``.

    ``log`` is told what became of each, and ``meter`` of the bytes while they
    come; it may stop the copying.  ``transfers`` are those of all images of
    the run, None for an image by itself.
    """

    def __init__(
        self,
        driver: UploaderDriver,
        target: RepositoryName,
        source: Source,
        log: ImageLog,
        meter: Meter,
        options: CopyOptions,
        *,
        transfers: Transfers | None = None,
    ) -> None:
        self._driver = driver
        self._target = target
        self._source = source
        self._log = log
        self._meter = meter
        self._options = options
        self._transfers = transfers
        self._configs: dict[Digest, bytes] = {}

    def config(self, manifest: Manifest) -> bytes | None:
        """Return an image's config where copy() fetched it, and a choice of platforms needs it."""
        described = manifest.config if image_config.describes(manifest) else None
        return self._configs.get(described.digest) if described else None

    def copy(self, manifest: Manifest) -> bool:
        """Copy the blobs of a manifest; return whether the target had all of them.

        Raises UploaderErrors, each with a note of the blob that it is about.
        """
        self._meter.check()
        blobs = dict(self._wanted(manifest))
        digests = {blob.digest for blob in blobs}
        before = self._present(blobs)
        mounted = self._driver.mount_layers(self._target, blobs, check=self._options.check_present)
        for blob, kind in blobs.items():
            if blob.digest in mounted:
                held = Outcome.PRESENT if blob.digest in before else Outcome.MOUNTED
                self._log.blob(blob, kind, held)
        self._skip_foreign(manifest)
        self._fetch({blob: kind for blob, kind in blobs.items() if blob.digest not in mounted})
        return mounted.issuperset(digests) and before.issuperset(digests)

    def has_foreign(self, manifest: Manifest) -> bool:
        """Return whether the target has what else than the manifest's blobs is to be copied."""
        foreign = self._foreign(manifest)
        return not foreign or self._present(foreign).issuperset(layer.digest for layer in foreign)

    def note_present(self, manifest: Manifest) -> None:
        """Note that the target has all of a manifest's blobs."""
        self._meter.check()
        for blob, kind in self._wanted(manifest):
            self._log.blob(blob, kind, Outcome.PRESENT)
        self._skip_foreign(manifest)

    def _wanted(self, manifest: Manifest) -> list[tuple[Descriptor, Kind]]:
        config = manifest.config.digest if manifest.config else None
        wanted = [*manifest.blobs(), *self._foreign(manifest)]
        return [(b, Kind.CONFIG if b.digest == config else Kind.LAYER) for b in wanted]

    def _foreign(self, manifest: Manifest) -> list[Descriptor]:
        """Return the layers that are to come although clients would get them elsewhere."""
        is_wanted = self._options.foreign_layers
        return [layer for layer in manifest.layers if layer.urls and is_wanted]

    def _skip_foreign(self, manifest: Manifest) -> None:
        for layer in manifest.layers:
            if layer.urls and not self._options.foreign_layers:
                self._log.blob(layer, Kind.LAYER, Outcome.SKIPPED, "clients get it by its urls")

    def _present(self, blobs: Collection[Descriptor]) -> frozenset[Digest]:
        with contextlib.suppress(errors.UploaderError):
            return self._driver.present(self._target, blobs)
        return frozenset()

    def _fetch(self, missing: dict[Descriptor, Kind]) -> None:
        if missing:
            with shared(self._transfers) as transfers:
                while missing:
                    missing = self._fetch_once(missing, transfers)

    def _fetch_once(
        self, missing: dict[Descriptor, Kind], transfers: Transfers
    ) -> dict[Descriptor, Kind]:
        """Fetch what no other image is fetching; return what did not come by the others."""
        own: dict[Descriptor, Transfer] = {}
        others: dict[Descriptor, Transfer] = {}
        for blob, kind in missing.items():
            transfer, is_new = transfers.begin(blob, functools.partial(self._copy_blob, blob, kind))
            (own if is_new else others)[blob] = transfer
        self._meter.expect(sum(blob.size or 0 for blob in own))
        self._finish(own, missing)
        arrived = [blob for blob, transfer in others.items() if transfer.wait()]
        self._meter.check()
        mounted = self._driver.mount_layers(self._target, arrived) if arrived else frozenset()
        for blob in others:
            if blob.digest in mounted:
                self._log.blob(blob, missing[blob], Outcome.MOUNTED)
        return {blob: missing[blob] for blob in others if blob.digest not in mounted}

    def _finish(self, own: Mapping[Descriptor, Transfer], kinds: Mapping[Descriptor, Kind]) -> None:
        """Wait for transfers of this image; once one has failed, begin no more of them."""
        jobs = {blob: transfer.future for blob, transfer in own.items()}
        try:
            for job in concurrent.futures.as_completed(jobs.values()):
                job.result()
        except BaseException:
            given_up = [blob for blob, job in jobs.items() if job.cancel()]
            concurrent.futures.wait([jobs[blob] for blob in jobs if blob not in given_up])
            for blob in given_up:
                self._give_up(blob, kinds[blob], Outcome.SKIPPED, NEVER_BEGUN)
            raise

    def _copy_blob(self, blob: Descriptor, kind: Kind, transfer: Transfer) -> None:
        transfer.is_throttled = self._source.is_throttled
        try:
            with naming(f"blob {blob.digest}"):
                size, outcome = self._transfer(blob, kind, transfer)
        except Exception as e:
            self._give_up(blob, kind, Outcome.FAILED, str(e))
            raise
        self._log.blob(dataclasses.replace(blob, size=size), kind, outcome)

    def _transfer(self, blob: Descriptor, kind: Kind, transfer: Transfer) -> tuple[int, Outcome]:
        # A source tries again by itself what may pass; whether content is right is known here.
        tries = Tries(self._meter.check)
        while True:
            try:
                return self._transfer_once(blob, kind, transfer)
            except errors.ContentMismatch as e:
                tries.failed(e)

    def _transfer_once(
        self, blob: Descriptor, kind: Kind, transfer: Transfer
    ) -> tuple[int, Outcome]:
        """Return the blob's size, and whether it was fetched or the driver had it already."""
        is_small = blob.size is not None and blob.size <= SIZE_LIMIT
        is_kept = kind is Kind.CONFIG and self._options.platforms and is_small
        kept = bytearray() if is_kept else None
        content = _BlobContent(self._source, blob, self._meter, transfer, kept)
        try:
            stored = self._driver.upload_layer(
                self._target,
                content,
                expected=blob.digest,
                size=blob.size,
                media_type=blob.media_type,
            )
        except Exception:
            content.expect(blob.size or 0)  # a driver that has kept a part of it will say so
            raise
        content.expect(0)
        if kept and len(kept) == blob.size:
            self._configs[blob.digest] = bytes(kept)
        return stored.size or 0, Outcome.FETCHED if content.begun else Outcome.MOUNTED

    def _give_up(self, blob: Descriptor, kind: Kind, outcome: Outcome, why: str) -> None:
        self._meter.expect(-(blob.size or 0))
        self._log.blob(blob, kind, outcome, why)
