# SPDX-License-Identifier: Apache-2.0
"""System calls and requests for each image, which do not depend on the speed of the machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks import programs, proxy, trace
from benchmarks.copiers import UPLOAD, Copiers
from benchmarks.data import Pushed
from benchmarks.measurement import Contender, measure
from benchmarks.results import Case, Figures, Row
from benchmarks.workshop import Workshop

_SHOWN = ("opens", "locks", "unlinks", "renames", "folders", "calls", "requests")

Words = Callable[[Copiers, Path], list[str]]
"""What returns the command line of a contender."""


def measured(workshop: Workshop) -> Row:
    """Measure a first copy and one without a change, once: counts hardly differ."""
    images = workshop.deployment()
    ours, theirs = Copiers.upload_words, Copiers.tripleo_export_words
    idle = Copiers.idle_words
    fresh = [
        _contender(workshop, UPLOAD, (ours, idle), images),
        _contender(workshop, "tripleo-common's export", (theirs, theirs), images),
    ]
    again = [_contender(workshop, UPLOAD, (ours, idle), images, before=True)]
    return Row(
        "calls",
        f"System calls and requests for each of {len(images)} images",
        [
            workshop.bench.compare(_case("Copied for the first time"), fresh, 1),
            workshop.bench.compare(_case("Copied again, nothing changed"), again, 1),
        ],
        [
            "strace and a proxy have counted them. The calls of a command without images are "
            "subtracted.",
        ],
    )


def _case(title: str) -> Case:
    return Case(title, UPLOAD, "flushes", _SHOWN, is_charted=False)


def _contender(
    workshop: Workshop,
    name: str,
    commands: tuple[Words, Words],
    images: list[Pushed],
    *,
    before: bool = False,
) -> Contender:
    """Return what counts the calls of a command that another one without images has not.

    With ``before``, all has been copied before.
    """
    words, idle = commands

    def run(folder: Path) -> Figures:
        traffic = proxy.Traffic()
        with proxy.before(workshop.source.address, traffic) as address:
            copiers = Copiers(address, images)
            if before:
                measure(words(copiers, folder), folder)
                traffic.requests.clear()
            calls = trace.counted(words(copiers, folder), folder)
            requests = traffic.requests.total()
        empty = workshop.bench.new_folder()
        calls.subtract(trace.counted(idle(Copiers(address, []), empty), empty))
        figures = {**trace.grouped(calls, len(images)), "requests": requests / len(images)}
        return figures | {f"call {name}": count for name, count in calls.items()}

    return Contender(name, run, programs.missing("strace"), is_ours=name == UPLOAD)
