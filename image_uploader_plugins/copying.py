"""Copying one image from a source registry to a driver, whoever asks for it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterable, Iterator

import requests

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import MEDIA_TYPES, Descriptor, Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.results.records import (
    NEVER_BEGUN,
    BlobRecord,
    ChildRecord,
    ImageRecord,
    Kind,
    Outcome,
    Status,
)
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
    """Copies one image into repository ``target`` of ``driver``.

    Keeps count in ``summary`` and account in ``record``; ``meter`` is told of
    the bytes while they come, and may stop the copying.
    """

    def __init__(
        self,
        driver: UploaderDriver,
        target: RepositoryName,
        source: RegistrySource,
        record: ImageRecord | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._driver = driver
        self._target = target
        self._source = source
        self._meter = meter or Meter()
        self._lock = threading.Lock()
        self._noted: set[Digest] = set()
        self.summary = Summary()
        self.record = record or ImageRecord("", "")

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
        put, status = self._copy(manifest, tag, 0, set())
        self.record.digest, self.record.media_type = str(put.digest), put.media_type
        self.record.become(status)
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

    def _copy(
        self, manifest: Manifest, tag: Tag | None, depth: int, seen: set[Digest]
    ) -> tuple[Descriptor, Status]:
        # Children first and without a name: the tag then leads to all of them at once.
        statuses = set()
        children = [ChildRecord.of(child) for child in manifest.manifests]
        self.record.children += children
        for child, record in zip(manifest.manifests, children, strict=True):
            if child.media_type not in MEDIA_TYPES:
                record.become(Status.SKIPPED, "a manifest of a type that is unknown here")
            elif child.digest in seen:
                record.become(Status.SKIPPED, "listed twice")
            else:
                seen.add(child.digest)
                if depth >= _DEPTH_LIMIT or len(seen) > _CHILDREN_LIMIT:
                    raise errors.ManifestInvalid(
                        f"an index nested deeper than {_DEPTH_LIMIT} or with more than "
                        f"{_CHILDREN_LIMIT} images: {manifest.digest}"
                    )
                statuses.add(self._copy_child(child, record, depth + 1, seen))
        put, status = self._put(manifest, tag)
        return put, Status.COPIED if Status.COPIED in statuses else status

    def _copy_child(
        self, child: Descriptor, record: ChildRecord, depth: int, seen: set[Digest]
    ) -> Status:
        try:
            record.become(self._copy(self._fetch(child), None, depth, seen)[1])
        except Exception as e:
            record.become(Status.FAILED, str(e))
            raise
        return record.status

    def _put(self, manifest: Manifest, tag: Tag | None) -> tuple[Descriptor, Status]:
        """Copy a manifest's blobs, then itself; whether the target had all of that."""
        name = ImageRef(self._target, tag or manifest.digest)
        held = None
        with contextlib.suppress(errors.UploaderError):  # what is broken is about to be mended
            held = self._driver.resolve(name)
        whole = self._copy_blobs(manifest)
        put = self._driver.put_manifest(
            self._target, manifest.content, manifest.media_type, tag=tag
        )
        return put, Status.UNCHANGED if whole and held == put.digest else Status.COPIED

    def _copy_blobs(self, manifest: Manifest) -> bool:
        """Whether there was nothing to copy."""
        self._meter.check()
        blobs = list(manifest.blobs())
        config = manifest.config.digest if manifest.config else None
        kinds = {b.digest: Kind.CONFIG if b.digest == config else Kind.LAYER for b in blobs}
        before = self._present(kinds)
        mounted = self._driver.mount_layers(self._target, list(kinds))
        for blob in blobs:
            if blob.digest in mounted:
                self._count(blob, kinds[blob.digest], None, before)
        for layer in manifest.layers:
            if layer.urls:
                self._note(layer, Kind.LAYER, Outcome.SKIPPED, "clients get it from its urls")
        missing = {blob: kinds[blob.digest] for blob in blobs if blob.digest not in mounted}
        self._fetch_blobs(missing)
        return before.issuperset(kinds) and not missing

    def _present(self, digests: Iterable[Digest]) -> frozenset[Digest]:
        with contextlib.suppress(errors.UploaderError):
            return self._driver.present(self._target, digests)
        return frozenset()

    def _fetch_blobs(self, missing: dict[Descriptor, Kind]) -> None:
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
            with _naming(f"blob {blob.digest}"):
                size, fetched = self._transfer(blob)
        except Exception as e:
            self._give_up(blob, kind, Outcome.FAILED, str(e))
            raise
        self._count(dataclasses.replace(blob, size=size), kind, fetched)

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

    def _count(
        self,
        blob: Descriptor,
        kind: Kind,
        fetched: int | None,
        before: frozenset[Digest] = frozenset(),
    ) -> None:
        is_layer, size = kind is Kind.LAYER, blob.size or 0
        with self._lock:
            if fetched is None:
                self.summary.layers_mounted += is_layer
                self.summary.bytes_saved += size
            else:
                self.summary.layers_uploaded += is_layer
                self.summary.bytes_fetched += fetched
        held = Outcome.PRESENT if blob.digest in before else Outcome.MOUNTED
        self._note(blob, kind, held if fetched is None else Outcome.FETCHED)

    def _give_up(self, blob: Descriptor, kind: Kind, outcome: Outcome, why: str) -> None:
        self._meter.expect(-(blob.size or 0))
        self._note(blob, kind, outcome, why)

    def _note(self, blob: Descriptor, kind: Kind, outcome: Outcome, why: str | None = None) -> None:
        """Put down what became of a blob first; another image of a list may have it, too."""
        with self._lock:
            if blob.digest not in self._noted:
                self._noted.add(blob.digest)
                self.record.blobs.append(BlobRecord.of(blob, kind, outcome, why))


@contextlib.contextmanager
def _naming(subject: str) -> Iterator[None]:
    """Note on an error what it was about, for whoever reports it."""
    try:
        yield
    except (errors.UploaderError, requests.RequestException) as e:
        e.add_note(subject)
        raise
