# SPDX-License-Identifier: Apache-2.0
"""The check that no two images get the same name in a target."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from image_uploader_plugins import errors
from image_uploader_plugins.copying.image_walk import default_image
from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.runs.records import ImageRecord, Status
from image_uploader_plugins.sources.mirrored_source import MirroredSource
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.text import one_line

_WAY_OUT = (
    "copy one of them to another name, with 'names: full' or --full-names (the registry in "
    "front), or with a namespace behind push_destination's host"
)


class Claim(NamedTuple):
    """``job`` is to become ``name`` in ``target``, whatever that is.

    ``role`` is what modifies it on the way, "" for nothing; ``where`` is the
    place that says so, "" where nobody tells.
    """

    target: str
    name: str
    job: Job
    all_platforms: bool
    role: str
    record: ImageRecord
    where: str = ""

    @property
    def source(self) -> tuple[str, bool, str]:
        """Return what is copied; claims of the same source cannot be of two images."""
        return self.job.source, self.all_platforms, self.role


def problems(claims: Iterable[Claim], open_registries: Callable[[], Registries]) -> list[str]:
    """Return where two different images would get one name, a line for each name.

    Their records then say so, too.  Registries are opened and asked just for
    names that are claimed twice; raises what they do.
    """
    named = collections.defaultdict(list)
    for claim in claims:
        named[claim.target, claim.name].append(claim)
    contested = [found for found in named.values() if len({claim.source for claim in found}) > 1]
    if not contested:
        return []
    with contextlib.closing(open_registries()) as registries:
        return list(filter(None, [_problem(found, registries) for found in contested]))


def _problem(claims: Sequence[Claim], registries: Registries) -> str:
    """Return what is wrong with claims of one name, "" where they are for one image."""
    images: dict[str, Claim] = {}
    for claim in claims:
        if identity := _identity(claim, registries):
            images.setdefault(identity, claim)
    if len(images) < 2:
        return ""
    both = " and ".join(_shown(image, claim) for image, claim in images.items())
    problem = one_line(f"{claims[0].name} would be {both}: {_WAY_OUT}")
    for claim in claims:
        claim.record.become(Status.FAILED, problem)
    return problem


def _shown(image: str, claim: Claim) -> str:
    return f"{claim.job.source} ({image}{', ' if claim.where else ''}{claim.where})"


def _identity(claim: Claim, registries: Registries) -> str:
    """Return what a claim is for; "" where there is no such image, which fails in its turn.

    Raises what can pass: it may have passed when the image is copied.
    """
    try:
        what = "of this machine" if claim.job.is_local else str(_digest(claim, registries))
    except errors.UploaderError as e:
        if e.retryable:
            raise
        return ""
    return f"{what}, modified by {claim.role}" if claim.role else what


def _digest(claim: Claim, registries: Registries) -> Digest:
    job = claim.job
    if isinstance(job.reference, Digest):
        return job.reference
    source = MirroredSource.of(registries, job.host, str(job.name))
    manifest = source.manifest(job.reference)
    if manifest.is_index and not claim.all_platforms:
        return default_image(manifest).digest
    return manifest.digest
