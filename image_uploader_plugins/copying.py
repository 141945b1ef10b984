"""Copying one image from a source registry to a driver, whoever asks for it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator

import requests

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import MEDIA_TYPES, Descriptor, Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.records import BlobRecord, Outcome
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.source import RegistrySource, retrying

LOG = logging.getLogger(__name__)

_PARALLEL_LAYERS = 4
# An index may list indexes (OCI image-spec, image-index.md); nobody nests them deeper.
_DEPTH_LIMIT = 4
_CHILDREN_LIMIT = 1000
_ARCHITECTURE = "amd64"


def size(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    if count < 1000:
        return f"{count:.0f} B"
    units = ["kB", "MB", "GB", "TB"]
    while (count := count / 1000) >= 1000 and len(units) > 1:
        units.pop(0)
    return f"{count:.1f} {units[0]}"


@dataclasses.dataclass
class Summary:
    """What copying took: counts, sizes in bytes, and seconds of wall-clock time.

    ``bytes_fetched`` came over the network; ``bytes_saved`` did not have to.
    """

    images: int = 0
    layers_uploaded: int = 0
    layers_mounted: int = 0
    bytes_fetched: int = 0
    bytes_saved: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.images} images, {self.layers_uploaded} layers uploaded, "
            f"{self.layers_mounted} layers mounted, {size(self.bytes_fetched)} fetched, "
            f"{size(self.bytes_saved)} saved, {self.seconds:.1f} seconds"
        )

    def add(self, other: Summary) -> None:
        for field in dataclasses.fields(self):
            total = getattr(self, field.name) + getattr(other, field.name)
            setattr(self, field.name, total)


class Copier:
    """Copies images into repository ``target`` of ``driver``.

    Keeps count in ``summary`` and account in ``blobs``; ``meter`` is told of
    the bytes while they come, and may stop the copying.
    """

    def __init__(
        self,
        driver: UploaderDriver,
        target: RepositoryName,
        source: RegistrySource,
        meter: Meter | None = None,
    ) -> None:
        self._driver = driver
        self._target = target
        self._source = source
        self._meter = meter or Meter()
        self._lock = threading.Lock()
        self.summary = Summary()
        self.blobs: list[BlobRecord] = []

    def copy(self, reference: Tag | Digest, tag: Tag | None, *, all_platforms: bool) -> Manifest:
        """Copy the image under ``reference`` and call it ``tag``; returns its manifest.

        An index is copied whole with ``all_platforms``, or where its digest
        was asked for (whoever names a digest pulls by it); otherwise just its
        linux/amd64 image, or its first, is.  Raises UploaderErrors, and
        requests' exceptions for a source that stays out of reach.
        """
        manifest = self._source.manifest(reference)
        if manifest.is_index and not all_platforms and not isinstance(reference, Digest):
            manifest = self._one_of(manifest)
        self._copy(manifest, tag, 0, set())
        self.summary.images += 1
        return manifest

    def _one_of(self, index: Manifest) -> Manifest:
        everything = frozenset(descriptor.digest for descriptor in index.manifests)
        chosen = index.default(_ARCHITECTURE, everything)
        if chosen is None:
            raise errors.ManifestInvalid(f"the index {index.digest} lists no image")
        if chosen.platform.architecture not in (_ARCHITECTURE, None):
            LOG.warning("%s: no image for %s, taking the first", self._target, _ARCHITECTURE)
        return self._fetch(chosen)

    def _fetch(self, descriptor: Descriptor) -> Manifest:
        with _naming(f"manifest {descriptor.digest}"):
            manifest = self._source.manifest(descriptor.digest, descriptor.size)
        if manifest.media_type != descriptor.media_type:
            raise errors.ManifestInvalid(
                f"{descriptor.digest} is {manifest.media_type}, listed as {descriptor.media_type}"
            )
        return manifest

    def _copy(self, manifest: Manifest, tag: Tag | None, depth: int, seen: set[Digest]) -> None:
        # Children first and without a name: the tag then leads to all of them at once.
        for child in manifest.manifests:
            if child.digest in seen:
                continue
            if child.media_type not in MEDIA_TYPES:
                self._note(child, Outcome.SKIPPED, "a manifest of a type that is unknown here")
                continue
            seen.add(child.digest)
            if depth >= _DEPTH_LIMIT or len(seen) > _CHILDREN_LIMIT:
                raise errors.ManifestInvalid(
                    f"an index nested deeper than {_DEPTH_LIMIT} or with more than "
                    f"{_CHILDREN_LIMIT} images: {manifest.digest}"
                )
            self._copy(self._fetch(child), None, depth + 1, seen)
        self._copy_blobs(manifest)
        self._driver.put_manifest(self._target, manifest.content, manifest.media_type, tag=tag)

    def _copy_blobs(self, manifest: Manifest) -> None:
        self._meter.check()
        blobs = list(manifest.blobs())
        config = manifest.config.digest if manifest.config else None
        present = self._driver.mount_layers(self._target, [blob.digest for blob in blobs])
        for blob in blobs:
            if blob.digest in present:
                self._count(blob, blob.size or 0, None, is_layer=blob.digest != config)
        for layer in manifest.layers:
            if layer.urls:
                self._note(layer, Outcome.SKIPPED, "foreign: clients get it from its urls")
        missing = [blob for blob in blobs if blob.digest not in present]
        if not missing:
            return
        self._meter.expect(sum(blob.size or 0 for blob in missing))
        with concurrent.futures.ThreadPoolExecutor(_PARALLEL_LAYERS) as pool:
            jobs = [pool.submit(self._copy_blob, blob, blob.digest != config) for blob in missing]
            try:
                for job in concurrent.futures.as_completed(jobs):
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                for blob, job in zip(missing, jobs, strict=True):
                    if job.cancelled():
                        self._give_up(blob, Outcome.SKIPPED, "the image failed before its turn")
                raise

    def _copy_blob(self, blob: Descriptor, is_layer: bool) -> None:
        try:
            with _naming(f"blob {blob.digest}"):
                size, fetched = self._transfer(blob)
        except Exception as e:
            self._give_up(blob, Outcome.FAILED, " ".join(str(e).split()))
            raise
        self._count(blob, size, fetched, is_layer=is_layer)

    @retrying
    def _transfer(self, blob: Descriptor) -> tuple[int, int | None]:
        """The blob's size, and the bytes that were fetched (None where the driver had it)."""
        fetched = None

        def chunks() -> Iterator[bytes]:
            nonlocal fetched
            self._meter.check()
            fetched = 0
            for chunk in self._source.blob(blob):
                self._meter.add(len(chunk))
                fetched += len(chunk)
                yield chunk

        try:
            stored = self._driver.upload_layer(
                self._target, chunks(), expected=blob.digest, media_type=blob.media_type
            )
        except Exception:
            self._meter.expect(fetched or 0)  # they came in vain, and have to come again
            raise
        if fetched is None:
            self._meter.expect(-(blob.size or 0))
        return stored.size or 0, fetched

    def _count(self, blob: Descriptor, size: int, fetched: int | None, *, is_layer: bool) -> None:
        outcome = Outcome.MOUNTED if fetched is None else Outcome.FETCHED
        with self._lock:
            self.blobs.append(BlobRecord.of(blob, outcome, size=size))
            if fetched is None:
                self.summary.layers_mounted += is_layer
                self.summary.bytes_saved += size
            else:
                self.summary.layers_uploaded += is_layer
                self.summary.bytes_fetched += fetched

    def _give_up(self, blob: Descriptor, outcome: Outcome, reason: str) -> None:
        self._meter.expect(-(blob.size or 0))
        self._note(blob, outcome, reason)

    def _note(self, blob: Descriptor, outcome: Outcome, reason: str) -> None:
        with self._lock:
            self.blobs.append(BlobRecord.of(blob, outcome, reason))


@contextlib.contextmanager
def _naming(subject: str) -> Iterator[None]:
    """Note on an error what it was about, for whoever reports it."""
    try:
        yield
    except (errors.UploaderError, requests.RequestException) as e:
        e.add_note(subject)
        raise
