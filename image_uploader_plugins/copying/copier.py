"""Copying one image from a source to a driver, whoever asks for it."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence

import tenacity

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Content, UploaderDriver
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.runs.image_log import ImageLog
from image_uploader_plugins.runs.records import NEVER_BEGUN, ImageRecord, Kind, Outcome, Status
from image_uploader_plugins.sources.interface import Source
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.text import one_line, redacted

LOG = logging.getLogger(__name__)

_PARALLEL_LAYERS = 4
_TRANSFERS = 5  # of one blob, until its bytes are right
# An index may list indexes (OCI image-spec, image-index.md); nobody nests them deeper.
_DEPTH_LIMIT = 4
_CHILDREN_LIMIT = 1000
_BLOBS_LIMIT = 10_000
_SIGNATURES_LIMIT = 200  # of one image, with what signs them
_ARCHITECTURE = "amd64"


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


@dataclasses.dataclass(frozen=True)
class CopyOptions:
    """How a run copies its images.

    With ``check_present`` what the driver holds is read before it counts;
    ``settings`` say how registries are asked; with ``signatures`` what signs
    and describes images comes along; with ``foreign_layers`` those that
    clients would get elsewhere do, too; with ``full_names`` names in the
    target begin with the registry.
    """

    check_present: bool = False
    settings: Settings = dataclasses.field(default_factory=Settings)
    signatures: bool = True
    foreign_layers: bool = False
    full_names: bool = False


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
        """So many bytes are still to come."""
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


class Copier:
    """Copies one image into repository ``target`` of ``driver``.

    Keeps account in ``record``; ``meter`` is told of
    the bytes while they come, and may stop the copying.  What is in
    ``settled``, to which it adds, was copied there before, in the same run.
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

    def copy(
        self, reference: Tag | Digest | Descriptor, tag: Tag | None, *, all_platforms: bool
    ) -> Manifest:
        """Copy the image under ``reference`` and call it ``tag``; returns its manifest.

        An index is copied whole with ``all_platforms``, or where its digest
        was asked for (whoever names a digest pulls by it); otherwise just its
        linux/amd64 image, or its first, is.  Raises UploaderErrors.
        """
        if isinstance(reference, Descriptor):
            manifest, digest = fetch(self._source, reference), reference.digest
        else:
            manifest = self._source.manifest(reference)
            digest = (
                reference if isinstance(reference, Digest) else manifest.told or manifest.digest
            )
        if manifest.is_index and not all_platforms and isinstance(reference, Tag):
            chosen = self._one_of(manifest)
            manifest, digest = fetch(self._source, chosen), chosen.digest
        copied = self._copy(manifest, digest, tag)
        if self._options.signatures:
            self._copy_signatures(copied)
        return manifest

    def _one_of(self, index: Manifest) -> Descriptor:
        chosen = default_image(index)
        images = [d for d in index.manifests if not d.runs_nowhere]
        fitting = [d for d in images if d.platform.architecture == _ARCHITECTURE]
        if chosen.platform.architecture not in (_ARCHITECTURE, None):
            LOG.warning(
                "%s: no image for %s, taking %s", self._target, _ARCHITECTURE, chosen.platform
            )
        elif len(fitting) > 1:
            LOG.warning(
                "%s: several images for %s, taking %s (%s)",
                self._target,
                _ARCHITECTURE,
                chosen.platform,
                chosen.digest,
            )
        return chosen

    def _copy_signatures(self, copied: Sequence[Digest]) -> None:
        """Copy what signs and describes these manifests, and what signs that."""
        seen = set(copied)
        pending = collections.deque((digest, 0) for digest in copied)
        while pending:
            signed, depth = pending.popleft()
            self._meter.check()
            for tag, descriptor in self._source.signatures(signed):
                is_new = descriptor.digest not in seen
                if descriptor.media_type not in media_types.MANIFEST_TYPES or not (is_new or tag):
                    continue
                seen.add(descriptor.digest)
                if len(self.record.signatures) >= _SIGNATURES_LIMIT:
                    LOG.warning("%s: more than %d signatures", self._target, _SIGNATURES_LIMIT)
                    return
                for part, name in walk(
                    self._source, fetch(self._source, descriptor), descriptor.digest
                ):
                    self._copy_part(part, name, tag if name == descriptor.digest else None)
                self.record.signatures.append(str(tag or descriptor.digest))
                if is_new and depth < _DEPTH_LIMIT:
                    pending.append((descriptor.digest, depth + 1))

    def _copy(self, manifest: Manifest, digest: Digest, tag: Tag | None) -> list[Digest]:
        """Copy an image whole; returns the digests of its manifests."""
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
        """Copy one manifest with its blobs; what was put, and whether the target had all of it."""
        before = None
        with contextlib.suppress(errors.UploaderError):  # what is broken is about to be mended
            before = self._driver.resolve(ImageRef(self._target, tag or name))
        if tag is None and before == name and name in self._settled:
            return Descriptor(part.media_type, name, len(part.content)), Status.UNCHANGED
        whole = self._copy_blobs(part)
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

    def _copy_blobs(self, manifest: Manifest) -> bool:
        """Whether the repository had them all."""
        self._meter.check()
        config = manifest.config.digest if manifest.config else None
        wanted = [*manifest.blobs()]
        if self._options.foreign_layers:
            wanted += [layer for layer in manifest.layers if layer.urls]
        blobs = {blob: Kind.CONFIG if blob.digest == config else Kind.LAYER for blob in wanted}
        digests = {blob.digest for blob in blobs}
        before = self._present(blobs)
        mounted = self._driver.mount_layers(self._target, blobs, check=self._options.check_present)
        for blob, kind in blobs.items():
            if blob.digest in mounted:
                held = Outcome.PRESENT if blob.digest in before else Outcome.MOUNTED
                self._log.blob(blob, kind, held)
        for layer in manifest.layers:
            if layer.urls and layer not in blobs:
                self._log.blob(layer, Kind.LAYER, Outcome.SKIPPED, "clients get it by its urls")
        self._fetch({blob: kind for blob, kind in blobs.items() if blob.digest not in mounted})
        return mounted.issuperset(digests) and before.issuperset(digests)

    def _present(self, blobs: Iterable[Descriptor]) -> frozenset[Digest]:
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
            with _naming(f"blob {blob.digest}"):
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
            transfer.expect(blob.size or 0)  # who has kept a part of it will say so
            raise
        transfer.expect(0)
        return stored.size or 0, Outcome.FETCHED if transfer.begun else Outcome.MOUNTED

    def _give_up(self, blob: Descriptor, kind: Kind, outcome: Outcome, why: str) -> None:
        self._meter.expect(-(blob.size or 0))
        self._log.blob(blob, kind, outcome, why)


def default_image(index: Manifest) -> Descriptor:
    """Return the linux/amd64 image of an index, or its first; raises ManifestInvalid for none."""
    chosen = index.default(_ARCHITECTURE)
    if chosen is None:
        raise errors.ManifestInvalid(f"the index {index.digest} lists no image")
    return chosen


def fetch(source: Source, descriptor: Descriptor) -> Manifest:
    """Return a descriptor's manifest, checked against it; raises what Source.manifest() does."""
    with _naming(f"manifest {descriptor.digest}"):
        manifest = source.manifest(descriptor.digest, descriptor.size)
    if not manifest.declares_type and descriptor.media_type in media_types.MANIFEST_TYPES:
        manifest = Manifest.parse(manifest.content, descriptor.media_type)
    if manifest.media_type != descriptor.media_type:
        raise errors.ManifestInvalid(
            f"{descriptor.digest} is {manifest.media_type}, listed as {descriptor.media_type}"
        )
    return manifest


def walk(source: Source, manifest: Manifest, digest: Digest) -> Iterator[tuple[Manifest, Digest]]:
    """Yield an image's manifests by digest, each once, and before the index that lists it.

    Raises ManifestInvalid for an index that is nested too deeply or has too
    many of them, and for an image with too many blobs, all in all.
    """
    blobs: set[Digest] = set()
    for part, name in _walk(source, manifest, digest, 0, {digest}):
        blobs.update(blob.digest for blob in part.blobs())
        if len(blobs) > _BLOBS_LIMIT:
            raise errors.ManifestInvalid(f"an image with more than {_BLOBS_LIMIT} blobs: {digest}")
        yield part, name


def _walk(
    source: Source, manifest: Manifest, digest: Digest, depth: int, seen: set[Digest]
) -> Iterator[tuple[Manifest, Digest]]:
    for child in source.children(manifest):
        if child.digest in seen or child.media_type not in media_types.MANIFEST_TYPES:
            continue
        seen.add(child.digest)
        if depth >= _DEPTH_LIMIT or len(seen) > _CHILDREN_LIMIT + 1:
            raise errors.ManifestInvalid(
                f"an index nested deeper than {_DEPTH_LIMIT} or with more than "
                f"{_CHILDREN_LIMIT} images: {manifest.digest}"
            )
        yield from _walk(source, fetch(source, child), child.digest, depth + 1, seen)
    yield manifest, digest


@contextlib.contextmanager
def _naming(subject: str) -> Iterator[None]:
    """Note on an error what it was about, for whoever reports it."""
    try:
        yield
    except errors.UploaderError as e:
        e.add_note(subject)
        raise
