# SPDX-License-Identifier: Apache-2.0
"""What a run would do with each image, and what all of them take."""

from __future__ import annotations

import array
import dataclasses
import enum
from collections.abc import Iterator, Sequence

from image_uploader_plugins import errors
from image_uploader_plugins.copying.engine import Engine
from image_uploader_plugins.copying.remembered import Allowance, Memory
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Room, UploaderDriver
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.runs.records import ImageRecord
from image_uploader_plugins.sources.source import Source
from image_uploader_plugins.sync.deletions import Going
from image_uploader_plugins.sync.space import Blobs, Need
from image_uploader_plugins.sync.wanted_images import WantedImage


class State(enum.StrEnum):
    """The things that a run may do with an image."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclasses.dataclass(slots=True)
class PlannedImage:
    """An image and what copying it would bring; ``numbers`` are those of its blobs.

    One that is not ``to_copy`` is whole in the target.  ``digest`` is what it
    will be, ``attached`` are the tags of what signs and describes it, and
    ``memory`` has what its source said, which is as ``insecure`` as a record
    says.
    """

    image: WantedImage
    record: ImageRecord
    state: State = State.FAILED
    to_copy: bool = False
    numbers: array.array[int] = dataclasses.field(default_factory=lambda: array.array("L"))
    manifests: int = 0
    manifest_bytes: int = 0
    tags: int = 0
    at_most: bool = False
    digest: str | None = None
    attached: tuple[Tag, ...] = ()
    insecure: bool = False
    memory: Memory | None = None

    @property
    def target(self) -> str:
        """Return the image's name in the target."""
        job = self.image.job
        return str(ImageRef(job.target, job.tag or job.reference))


@dataclasses.dataclass(frozen=True)
class Plan:
    """All images of a run with their needs, what would be deleted, and the room there is."""

    images: Sequence[PlannedImage]
    needs: Sequence[Need]
    going: Sequence[Going]
    room: Room | None

    @property
    def need(self) -> Need:
        """Return what all images take."""
        return sum(self.needs, Need())

    def count(self, state: State) -> int:
        """Return the number of images of this state."""
        return sum(planned.state is state for planned in self.images)

    @property
    def deletions(self) -> int:
        """Return the number of tags that would be deleted."""
        return sum(len(going.tags) + len(going.stale) for going in self.going)

    @property
    def is_work(self) -> bool:
        """Return whether a run would change anything."""
        states = {planned.state for planned in self.images}
        return bool(self.deletions or states & {State.NEW, State.CHANGED})


class Planner:
    """Plans images for a driver, by an engine; safe to use from several threads.

    What sources say is remembered for the copy, within an ``allowance``.
    """

    def __init__(self, driver: UploaderDriver, engine: Engine, allowance: Allowance) -> None:
        self._driver = driver
        self._engine = engine
        self._allowance = allowance
        self.blobs = Blobs()

    def plan(self, image: WantedImage, record: ImageRecord) -> PlannedImage:
        """Return what copying an image would bring.

        The record says what became of one that is not to be copied.  Raises as
        Engine.copy() does, and ContentMismatch for a tag that leads to another
        digest than its pin.
        """
        memory = Memory(self._allowance)
        if image.pins:
            image = _pinned(image, self._engine.source(image.job, memory), memory)
        job = image.job
        before = self._resolved(ImageRef(job.target, job.tag or job.reference))
        found = ImageRecord(record.source, record.uploader)
        dry = self._engine.plan(job, found, image.options, memory, all_platforms=True)
        planned = PlannedImage(
            image,
            record,
            _state(before, is_changed=dry.is_changed),
            dry.is_changed or dry.is_needed or image.options.check_present,
            self.blobs.numbers(dry.blobs),
            dry.manifests,
            dry.bytes,
            dry.new_tags,
            dry.at_most,
            found.digest,
            tuple(Tag(name) for name in found.signatures if ":" not in name),
            found.insecure,
        )
        if planned.to_copy:
            planned.memory = memory
        else:
            record.take_over(found)
            memory.forget()
        return planned

    def needs(self, images: Sequence[PlannedImage]) -> Iterator[Need]:
        """Yield what each image takes that none before it does."""
        known: set[RepositoryName] = set()
        counts = self.blobs.count_once(planned.numbers for planned in images)
        for planned, (count, blobs) in zip(images, counts, strict=True):
            target = planned.image.job.target
            is_new = planned.state is State.NEW and target not in known and self._is_new(target)
            known.add(target)
            yield Need(
                count,
                blobs,
                planned.manifest_bytes,
                planned.manifests,
                planned.tags,
                int(is_new),
                planned.at_most,
            )

    def _is_new(self, target: RepositoryName) -> bool:
        try:
            return self._driver.tags(target) == frozenset()
        except errors.UploaderError:
            return False

    def _resolved(self, target: ImageRef) -> Digest | None:
        try:
            return self._driver.resolve(target)
        except errors.UploaderError:  # what is broken is about to be mended
            return None


def _pinned(image: WantedImage, source: Source, memory: Memory) -> WantedImage:
    """Return an image by the digest of its pins; raises ContentMismatch for another one."""
    tag = image.job.reference
    if described := source.describe(tag):
        actual = described.digest
    else:
        manifest = source.manifest(tag)
        actual = manifest.told or manifest.digest
    for pin in image.pins:
        if actual != pin:
            raise errors.ContentMismatch(f"the tag leads to {actual}, and the list says {pin}")
    # By its tag another one could come a moment later.
    memory.know_as(tag, actual)
    return image._replace(job=image.job._replace(reference=actual))


def _state(before: Digest | None, *, is_changed: bool) -> State:
    if before is None:
        return State.NEW
    return State.CHANGED if is_changed else State.UNCHANGED
