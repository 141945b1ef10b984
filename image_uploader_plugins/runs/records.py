# SPDX-License-Identifier: Apache-2.0
"""The results of a run, an image, a blob: values with the report's field names."""

from __future__ import annotations

import collections
import dataclasses
import enum
import sys
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, Self

from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.text import one_line, redacted
from image_uploader_plugins.units import plural, size

NEVER_BEGUN = "never begun: the run ended before its turn"
INTERRUPTED = "interrupted"


def reason(why: str | None) -> str | None:
    """Return why something is so, in one line and without secrets: reports are read by many."""
    return one_line(redacted(why)) if why else None


class Outcome(enum.StrEnum):
    """The result for a blob."""

    FETCHED = "fetched"  # over the network
    MOUNTED = "mounted"  # from elsewhere in the target
    PRESENT = "present"  # the repository had it already
    WRITTEN = "written"  # from this machine's local storage
    SKIPPED = "skipped"
    FAILED = "failed"


class Status(enum.StrEnum):
    """The result for an image, or for one in a list."""

    COPIED = "copied"
    UNCHANGED = "unchanged"  # the target had all of it, under that name
    SKIPPED = "skipped"
    FAILED = "failed"


class Kind(enum.StrEnum):
    """The role of a blob in its manifest."""

    CONFIG = "config"
    LAYER = "layer"


class Ending(enum.StrEnum):
    """The end of a run."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


# With slots, since a run may have hundreds of thousands of these.
@dataclasses.dataclass(frozen=True, slots=True)
class BlobRecord:
    """One blob; ``size`` in bytes as stored, None where nobody said."""

    digest: str
    kind: Kind
    media_type: str
    size: int | None
    outcome: Outcome
    why: str | None = None

    @classmethod
    def of(cls, blob: Descriptor, kind: Kind, outcome: Outcome, why: str | None = None) -> Self:
        """Return the record of what became of a blob."""
        # Many images share layers, and nearly all their media types.
        digest, media_type = sys.intern(blob.digest.value), sys.intern(blob.media_type)
        return cls(digest, kind, media_type, blob.size, outcome, reason(why))


@dataclasses.dataclass(slots=True)
class ChildRecord:
    """A manifest that a list lists; ``size`` in bytes, ``platform`` as "linux/amd64"."""

    digest: str
    media_type: str
    size: int | None
    platform: str | None
    status: Status = Status.SKIPPED
    why: str | None = NEVER_BEGUN

    @classmethod
    def of(cls, child: Descriptor) -> Self:
        """Return the record of a child that an index lists, which is not copied yet."""
        names = (child.platform.os, child.platform.architecture)
        platform = "/".join(one_line(name) for name in names if name)
        return cls(str(child.digest), child.media_type, child.size, platform or None)

    def become(self, status: Status, why: str | None = None) -> None:
        """Set the status, and why it is that."""
        self.status, self.why = status, reason(why)


@dataclasses.dataclass(slots=True)
class ImageRecord:
    """One image; ``source`` is how it was asked for.

    ``targets`` are names that clients pull it by, ``digest`` and
    ``media_type`` those of the manifest that the target has, None where they
    are not known.  ``retryable`` says of a failure whether doing it again can
    help.  ``bytes_fetched`` came over the network, in vain or not.
    ``signatures`` are the tags, or the digests, of what came along to sign or
    describe the image.  ``missing_platforms`` were asked for, and the image
    is not for them.  ``insecure`` says that nobody vouched for the source:
    it was asked in the clear, or without verifying who it is.
    """

    source: str
    uploader: str
    status: Status = Status.SKIPPED
    why: str | None = NEVER_BEGUN
    retryable: bool = False
    targets: list[str] = dataclasses.field(default_factory=list)
    digest: str | None = None
    media_type: str | None = None
    bytes_fetched: int = 0
    seconds: float = 0.0
    blobs: list[BlobRecord] = dataclasses.field(default_factory=list)
    children: list[ChildRecord] = dataclasses.field(default_factory=list)
    signatures: list[str] = dataclasses.field(default_factory=list)
    insecure: bool = False
    missing_platforms: list[str] = dataclasses.field(default_factory=list)

    def take_over(self, other: ImageRecord) -> None:
        """Have become of it what became of another one; it keeps its names."""
        for field in dataclasses.fields(self):
            if field.name not in ("source", "uploader", "targets"):
                setattr(self, field.name, getattr(other, field.name))

    def become(self, status: Status, why: str | None = None, *, retryable: bool = False) -> None:
        """Set the status, why it is that, and whether another try may help."""
        self.status, self.retryable = status, retryable
        self.why = reason(why)


class RunRecord(NamedTuple):
    """A whole run: ``started`` in seconds since the epoch, ``seconds`` of wall-clock time.

    ``entries_left`` are those of the input that the run did not come to, so
    that nobody knows their images, or why entries of an archive are no images.
    ``deleted`` are images that left the target.
    """

    command: str
    started: float
    seconds: float
    status: Ending
    why: str | None
    images: tuple[ImageRecord, ...]
    entries_left: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Tell whether all was done that was to be done."""
        return self.status is Ending.SUCCEEDED

    @property
    def bytes_fetched(self) -> int:
        """Return the bytes that all images fetched from their sources."""
        return sum(image.bytes_fetched for image in self.images)

    def by_status(self) -> dict[Status, int]:
        """Return the number of images of each status."""
        found = collections.Counter(image.status for image in self.images)
        return {status: found[status] for status in Status}


class UpkeepRecord(NamedTuple):
    """A run of a command that looks after a target; times are as those of a RunRecord.

    ``is_well`` is whether its exit status was 0; ``bytes_freed`` is what the disk got
    back, None of a command that deletes nothing; ``findings`` are how many there
    are of each severity.
    """

    command: str
    started: float
    seconds: float
    is_well: bool
    bytes_freed: int | None
    findings: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Tally:
    """Some layers: how many, and their bytes as far as sizes are known."""

    count: int
    bytes: int

    @classmethod
    def by_outcome(cls, images: Iterable[ImageRecord]) -> dict[Outcome, Self]:
        """Count the layers of images, for each outcome."""
        counts: collections.Counter[Outcome] = collections.Counter()
        sizes: collections.Counter[Outcome] = collections.Counter()
        for blob in (blob for image in images for blob in list(image.blobs)):
            if blob.kind is Kind.LAYER:
                counts[blob.outcome] += 1
                sizes[blob.outcome] += blob.size or 0
        return {outcome: cls(counts[outcome], sizes[outcome]) for outcome in Outcome}


class Totals(NamedTuple):
    """The sums over some images, for people: counts, bytes, seconds of wall-clock time.

    ``images`` are those that the target has now.  ``bytes_fetched`` came over
    the network, in vain or not; ``bytes_saved`` did not have to, since the
    target had them.  ``layers_elsewhere`` were left where the manifest says
    that they are.  ``platforms_missing`` were asked for, and images are not
    for them.  ``images_failed`` are not in the target.
    """

    images: int
    layers_uploaded: int
    layers_mounted: int
    bytes_fetched: int
    bytes_saved: int
    seconds: float
    layers_elsewhere: int
    platforms_missing: int = 0
    images_failed: int = 0

    @classmethod
    def of(cls, images: Collection[ImageRecord], seconds: float) -> Self:
        """Add up what the records of a run say."""
        there = [image for image in images if image.status in _HAD]
        layers = Tally.by_outcome(images)
        blobs = (blob for image in images for blob in list(image.blobs))
        return cls(
            images=len(there),
            layers_uploaded=layers[Outcome.FETCHED].count,
            layers_mounted=sum(layers[outcome].count for outcome in _HELD),
            bytes_fetched=sum(image.bytes_fetched for image in images),
            bytes_saved=sum(blob.size or 0 for blob in blobs if blob.outcome in _HELD),
            seconds=seconds,
            layers_elsewhere=Tally.by_outcome(there)[Outcome.SKIPPED].count,
            platforms_missing=sum(len(image.missing_platforms) for image in there),
            images_failed=sum(image.status is Status.FAILED for image in images),
        )

    def __str__(self) -> str:
        elsewhere = (
            f"; {self.layers_elsewhere} layers are elsewhere, clients get them by their urls"
            if self.layers_elsewhere
            else ""
        )
        missing = (
            f"; missing: {plural(self.platforms_missing, 'platform')}"
            if self.platforms_missing
            else ""
        )
        failed = f"; {plural(self.images_failed, 'image')} failed" if self.images_failed else ""
        return (
            f"{self.images} images, {self.layers_uploaded} layers uploaded, "
            f"{self.layers_mounted} layers mounted, {size(self.bytes_fetched)} fetched, "
            f"{size(self.bytes_saved)} saved, {self.seconds:.1f} seconds"
            f"{elsewhere}{missing}{failed}"
        )


_HAD = (Status.COPIED, Status.UNCHANGED)
_HELD = (Outcome.MOUNTED, Outcome.PRESENT)
