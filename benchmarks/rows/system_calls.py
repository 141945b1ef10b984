# SPDX-License-Identifier: Apache-2.0
"""System calls and requests for each image, which do not depend on the speed of the machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks import programs, proxy, trace
from benchmarks.copiers import UPLOAD, Copiers
from benchmarks.data import Pushed
from benchmarks.measurement import Contender, measure
from benchmarks.results import Case, Figures, Row
from benchmarks.workshop import Workshop

_REQUESTS = "requests"
_SHOWN = ("opens", "locks", "unlinks", "renames", "folders", "calls", "requests")

Words = Callable[[Copiers, Path], list[str]]
"""What returns the command line of a contender."""


def measured(workshop: Workshop) -> Row:
    """Measure a first copy and one without a change, once: counts hardly differ."""
    images = workshop.deployment()[: workshop.settings.counted]
    ours, theirs = Copiers.upload_words, Copiers.tripleo_export_words
    fresh = [
        _contender(workshop, UPLOAD, ours, images),
        _contender(workshop, "tripleo-common's export", theirs, images),
    ]
    again = [_contender(workshop, UPLOAD, ours, images, before=True)]
    return Row(
        "calls",
        f"System calls and requests for each of {len(images)} images",
        [
            workshop.bench.compare(_case("Copied for the first time"), fresh, 1),
            workshop.bench.compare(_case("Copied again, nothing changed"), again, 1),
        ],
        [
            "strace and a proxy have counted them, once for all images and once for the first "
            "alone; the difference belongs to the others.",
        ],
    )


def _case(title: str) -> Case:
    return Case(title, UPLOAD, "flushes", _SHOWN, is_charted=False)


def _contender(
    workshop: Workshop, name: str, words: Words, images: list[Pushed], *, before: bool = False
) -> Contender:
    """Return what counts for a command; with ``before``, all has been copied before."""

    def run(folder: Path) -> Figures:
        counts = _counted(workshop, words, images, folder, before)
        counts.subtract(_counted(workshop, words, images[:1], workshop.bench.new_folder(), before))
        others = len(images) - 1
        requests = counts.pop(_REQUESTS) / others
        raw = {f"call {call}": count for call, count in counts.items()}
        return {**trace.grouped(counts, others), "requests": requests, **raw}

    return Contender(name, run, programs.missing("strace"), is_ours=name == UPLOAD)


def _counted(
    workshop: Workshop, words: Words, images: list[Pushed], folder: Path, before: bool
) -> Counter[str]:
    """Return the calls of one command, and its requests among them."""
    traffic = proxy.Traffic()
    with proxy.before(workshop.source.address, traffic) as address:
        copiers = Copiers(address, images)
        if before:
            measure(words(copiers, folder), folder)
            traffic.requests.clear()
        counts = trace.counted(words(copiers, folder), folder)
    counts[_REQUESTS] = traffic.requests.total()
    return counts
