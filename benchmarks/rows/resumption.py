# SPDX-License-Identifier: Apache-2.0
"""A large layer whose transfer breaks off several times: how much of it is fetched again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from benchmarks import proxy
from benchmarks.copiers import UPLOAD, Copiers
from benchmarks.data import Pushed
from benchmarks.measurement import Contender
from benchmarks.results import Case, Figures, Row
from benchmarks.workshop import Workshop

_CUTS = 5

_Choose = Callable[[Copiers], Contender]


def measured(workshop: Workshop) -> Row:
    """Measure the bytes that are fetched; these are counts, so one run is enough."""
    size = workshop.settings.resumed
    images = workshop.large_layer(size)
    choices: list[_Choose] = [Copiers.upload, Copiers.skopeo_to_directory, Copiers.tripleo_export]
    contenders = [_behind_proxy(workshop, images, choose) for choose in choices]
    case = Case(f"1 layer of {size} MB, cut {_CUTS} times", UPLOAD, "fetched", ("asked",))
    title = "A layer whose transfer breaks off"
    return Row("resume", title, [workshop.bench.compare(case, contenders, 1)])


def _behind_proxy(workshop: Workshop, images: list[Pushed], choose: _Choose) -> Contender:
    """Return the contender with a proxy between it and the registry."""
    source = workshop.source.address
    size = sum(blob.size for blob in images[0].blobs)

    def run(folder: Path) -> Figures:
        traffic = proxy.Traffic(_CUTS, size // (_CUTS + 1))
        with proxy.before(source, traffic) as address:
            choose(Copiers(address, images)).run(folder)
        return {"fetched": traffic.bytes / size, "asked": traffic.requests.total()}

    named = choose(Copiers(source, images))
    return dataclasses.replace(named, run=run)
