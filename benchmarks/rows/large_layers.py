# SPDX-License-Identifier: Apache-2.0
"""Layers that are large: many of them in one image, and one alone."""

from __future__ import annotations

from benchmarks import data
from benchmarks.copiers import UPLOAD, Copiers
from benchmarks.results import Case, Row
from benchmarks.workshop import Workshop

_LONG = 2000  # MB, from which there are half as many runs, without skopeo


def measured(workshop: Workshop) -> Row:
    """Measure an image of many layers, and images of one layer of each size."""
    cases = [_many(workshop), *(_one(workshop, size) for size in workshop.settings.large)]
    return Row("layers", "Large layers", cases)


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
    case = Case(f"{count} layers of {size} MB", UPLOAD)
    return workshop.bench.compare(case, contenders, workshop.settings.runs)


def _one(workshop: Workshop, size: int) -> Case:
    copiers = Copiers(workshop.source.address, workshop.large_layer(size))
    contenders = [copiers.upload(), copiers.stream()]
    runs = workshop.settings.runs
    if size < _LONG:
        contenders.insert(1, copiers.skopeo_to_registry())
    else:
        runs = max(1, runs // 2)
    return workshop.bench.compare(Case(f"1 layer of {size} MB", UPLOAD), contenders, runs)
