# SPDX-License-Identifier: Apache-2.0
"""The blobs of an image on their way, several at once."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import logging
from collections.abc import Collection, Container, Iterator

import tenacity

from image_uploader_plugins import errors
from image_uploader_plugins.copying.image_walk import naming
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Content, UploaderDriver
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.runs.image_log import ImageLog
from image_uploader_plugins.runs.records import NEVER_BEGUN, Kind, Outcome
from image_uploader_plugins.sources.source import Source
from image_uploader_plugins.text import one_line, redacted

LOG = logging.getLogger(__name__)

_PARALLEL_LAYERS = 4
_TRANSFERS = 5  # of one blob, until its bytes are right


def _log_retry(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    LOG.warning("fetched again, it came damaged: %s", one_line(redacted(str(error))))


# A source tries again by itself what may pass; whether content is right is known here.
_retrying = tenacity.retry(
    reraise=True,
    retry=tenacity.retry_if_exception_type(errors.ContentMismatch),
    wait=tenacity.wait_random_exponential(multiplier=1, max=10),
    stop=tenacity.stop_after_attempt(_TRANSFERS),
    before_sleep=_log_retry,
)


class _Transfer(Content):
    """One blob on its way; ``meter`` is told what comes, and of what is still to come.

    ``begun`` says whether anybody asked for its bytes.
    """

    def __init__(self, source: Source, blob: Descriptor, meter: Meter) -> None:
        self._source = source
        self._blob = blob
        self._meter = meter
        self._expected = blob.size or 0
        self.begun = False

    def expect(self, count: int) -> None:
        """Tell the meter that so many bytes are still to come."""
        self._meter.expect(count - self._expected)
        self._expected = count

    def start_at(self, offset: int) -> Iterator[bytes]:
        self._meter.check()
        self.expect(max(0, (self._blob.size or 0) - offset))
        self.begun = True
        for chunk in self._source.blob(self._blob, offset):
            self._meter.add(len(chunk))
            self._expected -= len(chunk)
            yield chunk


class BlobCopier:
    """Copies the blobs of manifests into repository ``target`` of ``driver``.

    ``log`` is told what became of each, and ``meter`` of the bytes while they
    come; it may stop the copying.
    """

    def __init__(
        self,
        driver: UploaderDriver,
        target: RepositoryName,
        source: Source,
        log: ImageLog,
        meter: Meter,
        options: CopyOptions,
    ) -> None:
        self._driver = driver
        self._target = target
        self._source = source
        self._log = log
        self._meter = meter
        self._options = options

    def copy(self, manifest: Manifest) -> bool:
        """Copy the blobs of a manifest; return whether the target had all of them.

        Raises UploaderErrors, each with a note of the blob that it is about.
        """
        self._meter.check()
        blobs = self._wanted(manifest)
        digests = {blob.digest for blob in blobs}
        before = self._present(blobs)
        mounted = self._driver.mount_layers(self._target, blobs, check=self._options.check_present)
        for blob, kind in blobs.items():
            if blob.digest in mounted:
                held = Outcome.PRESENT if blob.digest in before else Outcome.MOUNTED
                self._log.blob(blob, kind, held)
        self._skip_foreign(manifest, blobs)
        self._fetch({blob: kind for blob, kind in blobs.items() if blob.digest not in mounted})
        return mounted.issuperset(digests) and before.issuperset(digests)

    def has_foreign(self, manifest: Manifest) -> bool:
        """Return whether the target has what else than the manifest's blobs is to be copied."""
        foreign = self._foreign(manifest)
        return self._present(foreign).issuperset(layer.digest for layer in foreign)

    def note_present(self, manifest: Manifest) -> None:
        """Note that the target has all of a manifest's blobs."""
        self._meter.check()
        blobs = self._wanted(manifest)
        for blob, kind in blobs.items():
            self._log.blob(blob, kind, Outcome.PRESENT)
        self._skip_foreign(manifest, blobs)

    def _wanted(self, manifest: Manifest) -> dict[Descriptor, Kind]:
        config = manifest.config.digest if manifest.config else None
        wanted = [*manifest.blobs(), *self._foreign(manifest)]
        return {blob: Kind.CONFIG if blob.digest == config else Kind.LAYER for blob in wanted}

    def _foreign(self, manifest: Manifest) -> list[Descriptor]:
        """Return the layers that are to come although clients would get them elsewhere."""
        is_wanted = self._options.foreign_layers
        return [layer for layer in manifest.layers if layer.urls and is_wanted]

    def _skip_foreign(self, manifest: Manifest, blobs: Container[Descriptor]) -> None:
        for layer in manifest.layers:
            if layer.urls and layer not in blobs:
                self._log.blob(layer, Kind.LAYER, Outcome.SKIPPED, "clients get it by its urls")

    def _present(self, blobs: Collection[Descriptor]) -> frozenset[Digest]:
        with contextlib.suppress(errors.UploaderError):
            return self._driver.present(self._target, blobs)
        return frozenset()

    def _fetch(self, missing: dict[Descriptor, Kind]) -> None:
        if not missing:
            return
        self._meter.expect(sum(blob.size or 0 for blob in missing))
        with concurrent.futures.ThreadPoolExecutor(_PARALLEL_LAYERS) as pool:
            jobs = [pool.submit(self._copy_blob, blob, kind) for blob, kind in missing.items()]
            try:
                for job in concurrent.futures.as_completed(jobs):
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                for (blob, kind), job in zip(missing.items(), jobs, strict=True):
                    if job.cancelled():
                        self._give_up(blob, kind, Outcome.SKIPPED, NEVER_BEGUN)
                raise

    def _copy_blob(self, blob: Descriptor, kind: Kind) -> None:
        try:
            with naming(f"blob {blob.digest}"):
                size, outcome = self._transfer(blob)
        except Exception as e:
            self._give_up(blob, kind, Outcome.FAILED, str(e))
            raise
        self._log.blob(dataclasses.replace(blob, size=size), kind, outcome)

    @_retrying
    def _transfer(self, blob: Descriptor) -> tuple[int, Outcome]:
        """Return the blob's size, and whether it was fetched or the driver had it already."""
        transfer = _Transfer(self._source, blob, self._meter)
        try:
            stored = self._driver.upload_layer(
                self._target,
                transfer,
                expected=blob.digest,
                size=blob.size,
                media_type=blob.media_type,
            )
        except Exception:
            transfer.expect(blob.size or 0)  # a driver that has kept a part of it will say so
            raise
        transfer.expect(0)
        return stored.size or 0, Outcome.FETCHED if transfer.begun else Outcome.MOUNTED

    def _give_up(self, blob: Descriptor, kind: Kind, outcome: Outcome, why: str) -> None:
        self._meter.expect(-(blob.size or 0))
        self._log.blob(blob, kind, outcome, why)
