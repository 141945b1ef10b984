# SPDX-License-Identifier: Apache-2.0
"""Copying what lists of images say, with any driver and without tripleo-common."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from oslo_config import cfg

from image_uploader_plugins import errors, loader
from image_uploader_plugins.copying.engine import Engine
from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.lists import collisions, image_list, keys, reasons
from image_uploader_plugins.lists.image_list import Entry
from image_uploader_plugins.lists.reasons import Failures, ImagesFailed
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import ImageRecord
from image_uploader_plugins.sources.registries import Registries


class _Planned(NamedTuple):
    """An entry, the job that it is, and what becomes of it."""

    entry: Entry
    job: Job
    record: ImageRecord
    options: CopyOptions

    @property
    def claim(self) -> collisions.Claim | None:
        """Return its claim to a name; None where it gets none."""
        job = self.job
        if not job.tag:
            return None
        name = f"{job.target}:{job.tag}"
        every = self.entry.multi_arch or bool(self.options.platforms)
        return collisions.Claim(self.entry.uploader, name, job, every, "", self.record)


def upload(
    lists: image_list.Lists,
    conf: cfg.ConfigOpts,
    journal: Journal,
    *,
    multi_arch: bool = False,
    options: CopyOptions | None = None,
) -> None:
    """Copy what files list, each entry into the driver that it names or that ``conf`` chooses.

    The journal says of each image what became of it.  Raises
    ConfigurationError for an entry that cannot work, before anything is done,
    and ImagesFailed: before it where two images would get one name, or else
    once all had their turn.  No entry may need tripleo-common.
    """
    default, options = loader.selected(conf), options or CopyOptions()
    image_list.check(lists, default, options)
    run = _Run(conf, journal, dataclasses.replace(options, settings=loader.settings(conf)))
    run.upload(
        Entry.of(item, default, multi_arch=multi_arch) for item in image_list.items(lists, default)
    )


class _Run:
    """One run: what was planned, and what failed."""

    def __init__(self, conf: cfg.ConfigOpts, journal: Journal, options: CopyOptions) -> None:
        self._conf = conf
        self._journal = journal
        self._options = options
        self._failures = Failures()

    def upload(self, entries: Iterator[Entry]) -> None:
        """Copy all entries; raises ImagesFailed."""
        recorded = [(e, self._journal.plan(e.image_name, e.uploader)) for e in entries]
        planned = list(self._plan(recorded))
        self._check_names(planned)
        with contextlib.closing(Registries(self._options.settings)) as registries:
            for name in dict.fromkeys(each.entry.uploader for each in planned):
                chosen = [each for each in planned if each.entry.uploader == name]
                try:
                    self._copy_into(name, chosen, registries)
                except errors.UploaderError as e:
                    self._failures.of_run("target", e)
        self._failures.check(len(recorded))

    def _plan(self, recorded: Sequence[tuple[Entry, ImageRecord]]) -> Iterator[_Planned]:
        known = sorted({keys.PUSHING, *loader.installed()})
        for entry, record in recorded:
            try:
                if entry.uploader not in known:
                    raise errors.ConfigurationError(
                        f"unknown uploader {entry.uploader!r} (known: {', '.join(known)})"
                    )
                wishes, options = entry.wishes, self._options
                options = dataclasses.replace(options, **wishes) if wishes else options
                job = Job.of(entry, full_names=options.full_names)
            except errors.UploaderError as e:
                self._failures.of_image(record, entry.image_name, e)
            else:
                yield _Planned(entry, job, record, options)

    def _check_names(self, planned: Sequence[_Planned]) -> None:
        claims = filter(None, (each.claim for each in planned))
        opened = functools.partial(Registries, self._options.settings)
        try:
            problems = collisions.problems(claims, opened)
        except errors.UploaderError as e:
            raise reasons.failure("sources", e) from e
        if problems:
            raise ImagesFailed.for_reasons(problems)

    def _copy_into(self, name: str, planned: Sequence[_Planned], registries: Registries) -> None:
        with (
            loader.load_driver(self._conf, name) as driver,
            Engine(driver, registries, self._journal.meter) as engine,
        ):
            for done in engine.each(functools.partial(self._copy, engine), planned):
                self._journal.tell(done)

    def _copy(self, engine: Engine, planned: _Planned) -> ImageRecord:
        record, job = planned.record, planned.job
        try:
            with self._journal.turn(record) as meter:
                record.targets = [job.served]
                every = planned.entry.multi_arch
                engine.copy(job, record, meter, planned.options, all_platforms=every)
        except Exception as e:  # of one image, whatever it is
            self._failures.of_image(record, planned.entry.image_name, e)
        return record
