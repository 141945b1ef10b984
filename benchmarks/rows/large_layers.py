# SPDX-License-Identifier: Apache-2.0
"""Layers that are large: many of them in one image, and one alone."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from benchmarks import data
from benchmarks.copiers import CURLS, STREAM, UPLOAD, Copiers
from benchmarks.results import Case, Row
from benchmarks.workshop import Workshop

_COPIES = 3
_LONG = 2000  # MB, from which there are half as many runs, without skopeo


def measured(workshop: Workshop) -> Row:
    """Measure an image of many layers, and images of one layer of each size."""
    free = shutil.disk_usage(workshop.bench.folder).free // data.MB
    sizes, notes = fitting(workshop.settings.large, free)
    cases = [_many(workshop), *(_one(workshop, size) for size in sizes)]
    return Row("layers", "Large layers", cases, notes)


def fitting(sizes: Sequence[int], free: int) -> tuple[list[int], list[str]]:
    """Return the sizes for which a disk has the space, and a sentence for each other one.

    The registry has a layer once, and so has a contender; all in MB.
    """
    good = [size for size in sizes if _COPIES * size < free]
    notes = [
        f"A layer of {size} MB is left out, since the disk has {free} MB."
        for size in sizes
        if size not in good
    ]
    return good, notes


def _many(workshop: Workshop) -> Case:
    count, size = workshop.settings.many
    images = workshop.push(data.layers(f"many-{count}-{size}", count, size * data.MB))
    copiers = Copiers(workshop.source.address, images)
    contenders = [
        copiers.upload(),
        copiers.skopeo_to_registry(),
        copiers.tripleo_export(),
        copiers.curls(),
    ]
    case = Case(f"{count} layers of {size} MB", UPLOAD, limit=CURLS)
    return workshop.bench.compare(case, contenders, workshop.settings.runs)


def _one(workshop: Workshop, size: int) -> Case:
    copiers = Copiers(workshop.source.address, workshop.large_layer(size))
    contenders = [copiers.upload(), copiers.stream()]
    runs = workshop.settings.runs
    if size < _LONG:
        contenders.insert(1, copiers.skopeo_to_registry())
    else:
        runs = max(1, runs // 2)
    case = Case(f"1 layer of {size} MB", UPLOAD, limit=STREAM)
    return workshop.bench.compare(case, contenders, runs)
