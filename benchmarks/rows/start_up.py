# SPDX-License-Identifier: Apache-2.0
"""The start of the command, which every short command pays for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import programs
from benchmarks.copiers import Copiers
from benchmarks.measurement import Contender, measure
from benchmarks.results import Case, Figures, Row
from benchmarks.workshop import Workshop
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver

_INTERPRETER = "python -c pass"
_TIMES = 2  # as many runs as elsewhere: they are short


def measured(workshop: Workshop) -> Row:
    """Measure commands that have nothing to do."""
    empty = workshop.bench.new_folder()
    LocalExportDriver(empty / "tree").close()
    prepare = Copiers("127.0.0.1:1", []).idle_words(empty)
    configuration = prepare[1:3]
    contenders = [
        _contender(_INTERPRETER, [sys.executable, "-c", "pass"]),
        _contender("image-uploader --help", [programs.OURS, "--help"]),
        _contender("image-uploader upload --help", [programs.OURS, "upload", "--help"]),
        _contender("image-uploader list, no images", [programs.OURS, *configuration, "list"]),
        _contender("image-uploader prepare, no images", prepare),
    ]
    case = Case("Nothing to do", _INTERPRETER)
    runs = workshop.settings.runs * _TIMES
    return Row(
        "start",
        "The start of the command",
        [workshop.bench.compare(case, contenders, runs)],
        ["prepare imports tripleo-common, the other commands do not."],
    )


def _contender(name: str, words: Sequence[str]) -> Contender:
    def run(folder: Path) -> Figures:
        return measure(words, folder)

    return Contender(name, run, is_ours=words[0] == programs.OURS)
