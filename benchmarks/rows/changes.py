# SPDX-License-Identifier: Apache-2.0
"""Putting and deleting one image, beside more and more others."""

from __future__ import annotations

from pathlib import Path

from benchmarks.results import Case, Entry, Figures, Row
from benchmarks.small_images import OPERATIONS, WRITE, Shape, small_image
from benchmarks.workshop import Workshop, ask
from tests.support import legacy

_OURS = "image-uploader"
_THEIRS = "tripleo-common's export"
_PUT = OPERATIONS[0]

_WORDS = {
    Shape.REPOSITORIES: "beside images in other repositories",
    Shape.TAGS: "beside tags in the same repository",
}


def measured(workshop: Workshop) -> Row:
    """Measure each operation beside the images of each count, in both shapes of a tree."""
    cases = [case for shape in Shape for case in _cases(workshop, shape)]
    notes = [
        "Up to 20 operations each, one after the other, with a write and a flush of 4 kB "
        "before each. Trees are filled without flushes; a number of images that is not round "
        "is what there was time for.",
        "tripleo-common's export flushes nothing.",
    ]
    return Row("change", "Putting and deleting one image", cases, notes)


def _cases(workshop: Workshop, shape: Shape) -> list[Case]:
    """Return a case for each operation, with an entry for each number of images."""
    cases = {name: _case(f"{name}, {_WORDS[shape]}") for name in OPERATIONS}
    writes = Entry(WRITE)
    for case in cases.values():
        case.entries.append(writes)
    for count in workshop.settings.counts:
        root, held = workshop.small_tree(shape, count)
        workshop.bench.settle()
        seconds = workshop.settings.change_seconds
        taken = ask("benchmarks.small_images", "change", root, shape.value, seconds)
        writes.runs += _runs(taken[WRITE])
        for name, case in cases.items():
            case.entries.append(Entry(f"{_OURS}, {held:,}", _runs(taken[name]), is_ours=True))
        cases[_PUT].entries.append(_theirs(workshop, shape, held))
    return list(cases.values())


def _case(title: str) -> Case:
    return Case(title, WRITE, "milliseconds", (), is_charted=title.startswith("new"))


def _theirs(workshop: Workshop, shape: Shape, count: int) -> Entry:
    """Measure tripleo-common's export in a tree of its own."""
    root = workshop.bench.new_folder() / "tree"
    _fill(root, shape, count)
    workshop.bench.settle()
    taken = ask("benchmarks.tripleo_export", "put", root, shape.value)
    return Entry(f"{_THEIRS}, {count:,}", _runs(taken))


def _fill(root: Path, shape: Shape, count: int) -> None:
    """Write images as tripleo-common does: by its own means, each takes as long as all before."""
    tags: dict[str, list[str]] = {}
    for number in range(count):
        image = small_image(shape, number)
        name, tag = image.repository.value, str(image.tag)
        legacy.write_blobs(root, image)
        legacy.write_manifest(root, image)
        legacy.write_type_map(root, image, tag, {image.manifest.media_type: image.digest})
        tags.setdefault(name, []).append(tag)
    legacy.write_lists(root, tags)


def _runs(milliseconds: list[float]) -> list[Figures]:
    return [{"milliseconds": value} for value in milliseconds]
