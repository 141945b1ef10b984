# SPDX-License-Identifier: Apache-2.0
"""Commands that read a whole tree: of large layers, and of many small images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks import data, programs
from benchmarks.measurement import Contender, measure
from benchmarks.results import Case, Figures, Row
from benchmarks.small_images import Shape, small_image
from benchmarks.workshop import Workshop, ask
from image_uploader_plugins.local_export import layout

_LAYER = 20  # MB
_SUMS = "find, xargs sha256sum"
_CAT = "find, xargs cat"


def measured(workshop: Workshop) -> Row:
    """Measure verify on layers, and all commands that read a tree on small images."""
    notes = ["Each layer is in two repositories, and once on the disk."]
    title = "Commands that read a whole tree"
    return Row("verify", title, [_layers(workshop), *_small(workshop)], notes)


def _layers(workshop: Workshop) -> Case:
    root = workshop.bench.new_folder() / "tree"
    count = workshop.settings.verified // _LAYER
    ask("benchmarks.layer_tree", root, count, _LAYER * data.MB)
    find = f"find {root / layout.POOL} -type f -print0"
    sums = f"{find} | xargs -0 -n 1 -P {os.cpu_count()} sha256sum"
    contenders = [
        _command("image-uploader verify", [programs.OURS, "-q", "verify", "--root", str(root)]),
        _command(_SUMS, ["sh", "-ec", sums]),
    ]
    case = Case(f"verify: {count} layers of {_LAYER} MB", _SUMS)
    return workshop.bench.compare(case, contenders, workshop.settings.runs)


def _small(workshop: Workshop) -> list[Case]:
    root, count = workshop.small_tree(Shape.REPOSITORIES, workshop.settings.counts[-1])
    first = small_image(Shape.REPOSITORIES, 0)
    commands = {
        "verify": ["verify"],
        "list": ["list", "-f", "csv"],
        "show": ["show", f"{first.repository}:{first.tag}"],
        "prune --dry-run": ["prune", "--dry-run", "--keep-newest", "1"],
        "gc --dry-run": ["gc", "--dry-run"],
    }
    cat = f"find {root} -type f -print0 | xargs -0 cat >/dev/null"
    ours = [
        _command(f"image-uploader {name}", [programs.OURS, "-q", *words, "--root", str(root)])
        for name, words in commands.items()
    ]
    contenders = [*ours, _command(_CAT, ["sh", "-ec", cat])]
    case = Case(f"{count} small images", _CAT)
    return [workshop.bench.compare(case, contenders, workshop.settings.runs)]


def _command(name: str, words: Sequence[str]) -> Contender:
    def run(folder: Path) -> Figures:
        return measure(words, folder)

    return Contender(name, run, is_ours=words[0] == programs.OURS)
