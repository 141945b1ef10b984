# SPDX-License-Identifier: Apache-2.0
"""The images that entries of lists want: each once, with what becomes of it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from image_uploader_plugins.copying.job import Job, full_name
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.lists.collisions import Claim
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.runs.records import ImageRecord
from image_uploader_plugins.sync.tag_choice import chosen
from image_uploader_plugins.sync.wanted import Entry

ListTags = Callable[[], list[str]]
"""A function that returns all tags of an entry's source, or raises."""

_T = TypeVar("_T")


class WantedImage(NamedTuple):
    """An image that some entries want, those ``where``; its tag must lead to all ``pins``."""

    job: Job
    options: CopyOptions
    where: tuple[str, ...]
    pins: frozenset[Digest] = frozenset()

    def claim(self, record: ImageRecord, target: str) -> Claim | None:
        """Return its claim to a name in a ``target``; None where it gets none."""
        job = self.job
        name = f"{job.target}:{job.tag}"
        where = " and ".join(self.where)
        return Claim(target, name, job, True, "", record, where) if job.tag else None


def target_of(entry: Entry, options: CopyOptions) -> RepositoryName:
    """Return the repository that an entry's images are copied to; raises InvalidReference."""
    full = options.full_names if entry.full_names is None else entry.full_names
    if entry.target:
        return entry.target
    return full_name(entry.registry, entry.repository) if full else entry.repository


def of_entry(entry: Entry, options: CopyOptions, list_tags: ListTags) -> list[WantedImage]:
    """Return the images that an entry wants, asking for its source's tags if it has to.

    Raises InvalidReference, and what ``list_tags`` does.
    """
    listed = chosen(entry.tags, list_tags()) if entry.tags.needs_list else []
    target, wishes = target_of(entry, options), _wishes(entry, options)
    references: Iterable[Tag | Digest] = dict.fromkeys(
        [*entry.tags.names, *entry.pins, *listed, *entry.digests]
    )
    return [
        WantedImage(
            Job(
                entry.registry,
                entry.repository,
                reference,
                "",
                target,
                reference if isinstance(reference, Tag) else None,
            ),
            wishes,
            (entry.where,),
            frozenset(pin for tag, pin in entry.pins.items() if tag == reference),
        )
        for reference in references
    ]


def merged(images: Iterable[WantedImage]) -> Iterator[WantedImage]:
    """Yield images, each once and in their order: what one entry wants more is added."""
    found: dict[Job, list[WantedImage]] = {}
    for image in images:
        found.setdefault(image.job, []).append(image)
    for same in found.values():
        yield functools.reduce(_both, same)


def _both(one: WantedImage, other: WantedImage) -> WantedImage:
    return WantedImage(
        one.job,
        _options_of_both(one.options, other.options),
        tuple(dict.fromkeys([*one.where, *other.where])),
        one.pins | other.pins,
    )


def _wishes(entry: Entry, options: CopyOptions) -> CopyOptions:
    return dataclasses.replace(
        options,
        signatures=options.signatures if entry.referrers is None else entry.referrers,
        artifact_types=entry.artifact_types or options.artifact_types,
        platforms=entry.platforms or options.platforms,
    )


def _options_of_both(one: CopyOptions, other: CopyOptions) -> CopyOptions:
    """Return options by which all comes that either of them wants."""
    types: tuple[str, ...] = ()
    signing = [options for options in (one, other) if options.signatures]
    if all(options.artifact_types for options in signing):
        types = _every(options.artifact_types for options in signing)
    return dataclasses.replace(
        one,
        signatures=bool(signing),
        artifact_types=types,
        platforms=_every((one.platforms, other.platforms))
        if one.platforms and other.platforms
        else None,
    )


def _every(several: Iterable[tuple[_T, ...]]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(itertools.chain.from_iterable(several)))
