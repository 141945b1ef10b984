# SPDX-License-Identifier: Apache-2.0
"""The run of ``sync``: a target is made to have what lists want, with any driver."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, Self

from oslo_config import cfg

from image_uploader_plugins import errors, loader
from image_uploader_plugins.copying.engine import Engine
from image_uploader_plugins.copying.remembered import Allowance
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.lists import collisions, reasons, share
from image_uploader_plugins.lists.reasons import Failures, ImagesFailed
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import ImageRecord, Status
from image_uploader_plugins.sources.mirrored_source import MirroredSource
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sync import space, wanted_images
from image_uploader_plugins.sync.deletions import Deletions, Going, mirrored
from image_uploader_plugins.sync.planning import Plan, PlannedImage, Planner
from image_uploader_plugins.sync.wanted import Entry, Wanted
from image_uploader_plugins.sync.wanted_images import WantedImage

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SyncOptions:
    """The options of a run: how images are copied, and its guards.

    ``max_share`` of a repository's tags may go where a list mirrors; with
    ``check_space`` nothing is copied unless all fits.
    """

    copying: CopyOptions = dataclasses.field(default_factory=CopyOptions)
    max_share: Fraction = Fraction(share.DEFAULT)
    check_space: bool = True


class Synchronization:
    """One run into ``driver``, called ``target``, which ``journal`` follows.

    As a context manager it ends its threads; opened() makes one by options.
    """

    def __init__(
        self,
        wanted: Wanted,
        target: str,
        driver: UploaderDriver,
        registries: Registries,
        journal: Journal,
        options: SyncOptions,
    ) -> None:
        self._wanted = wanted
        self._target = target
        self._driver = driver
        self._registries = registries
        self._journal = journal
        self._options = options
        self._engine = Engine(driver, registries, journal.meter)
        self._deletions = Deletions(driver, target, options.max_share)
        self._failures = Failures()

    @classmethod
    @contextlib.contextmanager
    def opened(
        cls, wanted: Wanted, conf: cfg.ConfigOpts, journal: Journal, options: SyncOptions
    ) -> Iterator[Self]:
        """Return a context with a run into the driver that ``conf`` chooses.

        Raises ConfigurationError.
        """
        settings = dataclasses.replace(
            loader.settings(conf, mirrored=True), rules=wanted.registries
        )
        with (
            loader.load_driver(conf) as driver,
            contextlib.closing(Registries(settings)) as registries,
        ):
            run = cls(wanted, loader.selected(conf), driver, registries, journal, options)
            with run:
                yield run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._engine.__exit__(*raised)

    # -- the plan

    def plan(self) -> Plan:
        """Return what the run would do; changes nothing.

        What fails is in its images' records.  Raises ImagesFailed where two
        images would get one name, and ConfigurationError for what the driver
        cannot do.
        """
        # Nobody is to copy.
        return self._planned(Allowance(0), lambda record: record.become(Status.SKIPPED))

    def _planned(self, allowance: Allowance, put_off: Callable[[ImageRecord], None]) -> Plan:
        """Return the plan; ``put_off`` is called for images that another turn is for."""
        mirrors = self._mirrors()
        planner = Planner(self._driver, self._engine, allowance)
        look = functools.partial(self._look, planner, put_off)
        planned = self._looked_at(self._images(), look)
        wanted = {name: _tags(planned, name) for name in mirrors}
        return Plan(
            planned,
            list(planner.needs(planned)),
            list(self._deletions.going(wanted)),
            self._driver.room(),
        )

    def check_plan(self, plan: Plan) -> None:
        """Raise ImagesFailed for what failed while it was planned, or would be refused."""
        for going in plan.going:
            if going.problem:
                self._refuse(going)
        self.check()

    def check(self) -> None:
        """Raise ImagesFailed for all that has failed so far."""
        self._failures.check(len(self._journal.images))

    def _refuse(self, going: Going) -> None:
        self._failures.of_run("mirror", errors.ConfigurationError(going.problem))

    def _mirrors(self) -> Mapping[RepositoryName, Entry]:
        entries = []
        for entry in self._wanted.entries:
            # What has no name in the target fails in its turn.
            with contextlib.suppress(errors.InvalidReference):
                entries.append((wanted_images.target_of(entry, self._options.copying), entry))
        found = mirrored(entries)
        self._deletions.check(found)
        return found

    def _images(self) -> list[PlannedImage]:
        """Return all images that are wanted; those of entries that fail are not among them."""
        numbered = dict(self._engine.each(self._of_entry, enumerate(self._wanted.entries)))
        every = [image for number in sorted(numbered) for image in numbered[number]]
        images = [
            PlannedImage(image, self._journal.plan(image.job.source, self._target))
            for image in wanted_images.merged(every)
        ]
        for planned in images:
            planned.record.targets = [planned.target]
        self._check_names(images)
        return images

    def _of_entry(self, numbered: tuple[int, Entry]) -> tuple[int, list[WantedImage]]:
        number, entry = numbered
        try:
            images = wanted_images.of_entry(
                entry, self._options.copying, functools.partial(self._tags, entry)
            )
        except errors.Interrupted:
            raise
        except Exception as e:  # of one entry, whatever it is
            record = self._journal.plan(entry.source, self._target)
            self._failures.of_image(record, f"{entry.where}: {entry.source}", e)
            return number, []
        if not images:
            LOG.warning("%s: %s has no tag that is wanted", entry.where, entry.source)
        return number, images

    def _tags(self, entry: Entry) -> list[str]:
        name, meter = str(entry.repository), self._journal.meter
        return MirroredSource.of(self._registries, entry.registry, name, meter).tags()

    def _check_names(self, images: Sequence[PlannedImage]) -> None:
        claims = (planned.image.claim(planned.record, self._target) for planned in images)
        opened = functools.partial(Registries, self._registries.settings)
        try:
            problems = collisions.problems(filter(None, claims), opened)
        except errors.UploaderError as e:
            raise reasons.failure("sources", e) from e
        if problems:
            raise ImagesFailed.for_reasons(problems)

    def _looked_at(
        self, images: Sequence[PlannedImage], look: Callable[[PlannedImage], PlannedImage]
    ) -> list[PlannedImage]:
        """Return what becomes of images, in their order; those that stay have had their turn."""
        found = {}
        for done in self._engine.each(look, images):
            found[id(done.record)] = done
            if not done.to_copy:
                self._journal.tell(done.record)
        return [found[id(planned.record)] for planned in images]

    def _look(
        self,
        planner: Planner,
        put_off: Callable[[ImageRecord], None],
        planned: PlannedImage,
    ) -> PlannedImage:
        record = planned.record
        try:
            with self._journal.turn(record):
                planned = planner.plan(planned.image, record)
            if planned.to_copy:
                put_off(record)
        except Exception as e:  # of one image, whatever it is
            self._failures.of_image(record, planned.image.job.source, e)
        return planned

    # -- the run

    def run(self) -> None:
        """Copy what is not there, and then delete what is no longer wanted.

        The journal says what was copied and what deleted.  Raises as plan()
        does, StorageFull where what comes cannot fit, and ImagesFailed once
        all images had their turn.
        """
        plan = self._planned(Allowance(), self._journal.put_off)
        to_copy = [planned for planned in plan.images if planned.to_copy]
        if self._options.check_space:
            space.check(plan.need, plan.room, self._target)
        for record in self._engine.each(self._copy, to_copy):
            self._journal.tell(record)
        self._delete(plan)
        self.check()

    def _copy(self, planned: PlannedImage) -> ImageRecord:
        image, record = planned.image, planned.record
        try:
            with self._journal.turn(record) as meter:
                self._engine.copy(
                    image.job,
                    record,
                    meter,
                    image.options,
                    all_platforms=True,
                    memory=planned.memory,
                )
            record.insecure |= planned.insecure
        except Exception as e:  # of one image, whatever it is
            self._failures.of_image(record, image.job.source, e)
        finally:
            if planned.memory:
                planned.memory.forget()
        return record

    def _delete(self, plan: Plan) -> None:
        for going in plan.going:
            if self._failures:
                if going.tags or going.attached:
                    LOG.warning("%s: nothing is deleted, since not all images came", going.name)
            elif going.problem:
                self._refuse(going)
            else:
                self._delete_of(going)

    def _delete_of(self, going: Going) -> None:
        try:
            self._deletions.delete(going)
        except errors.UploaderError as e:
            self._failures.of_run(str(going.name), e)
        finally:
            self._journal.deleted = tuple(map(str, self._deletions.deleted))


def _tags(images: Sequence[PlannedImage], name: RepositoryName) -> set[Tag]:
    """Return the tags of a repository that images get, with those of what signs them."""
    found: set[Tag] = set()
    for planned in images:
        if planned.image.job.target == name:
            found.update(planned.attached)
            found.update([planned.image.job.tag] if planned.image.job.tag else [])
    return found
