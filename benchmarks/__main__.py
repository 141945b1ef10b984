# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks``: measures all rows side by side, and writes what was measured."""

from __future__ import annotations

import argparse
import compileall
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import image_uploader_plugins
from benchmarks import chart, programs, report
from benchmarks.measurement import Bench, MeasurementError, remove
from benchmarks.results import Result, Row
from benchmarks.rows import ROWS
from benchmarks.workshop import FULL, QUICK, Settings, Workshop

FAILED = "Not measured"
"""How the note begins of a row that has failed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the files that are wanted.

    The exit status is 1 if something of ours failed. A peer that fails is a result.
    """
    options = _options(arguments)
    settings = QUICK if options.quick else FULL
    if options.runs:
        settings = dataclasses.replace(settings, runs=options.runs, load_runs=options.runs)
    folder = _folder(options.folder)
    try:
        with contextlib.ExitStack() as stack:
            result = measured(settings, options, folder, stack)
        # Before the folder goes, which takes long and may be interrupted.
        written(result, options)
    finally:
        _say("removing what was written")
        remove(folder)
    return 1 if _failed(result) else 0


def measured(
    settings: Settings, options: argparse.Namespace, folder: Path, stack: contextlib.ExitStack
) -> Result:
    """Measure the rows that the options name, all of them by default; ``stack`` ends servers."""
    bench = Bench(folder, _say, drop_caches=options.drop_caches)
    # As pip does when it installs.
    compileall.compile_dir(Path(image_uploader_plugins.__file__).parent, quiet=1)
    started = time.monotonic()
    described = {
        **dataclasses.asdict(settings),
        "quick": options.quick,
        "drop caches": options.drop_caches,
    }
    result = Result(programs.machine(folder), described)
    data_folder = options.data.absolute() if options.data else bench.new_folder()
    workshop = Workshop(settings, data_folder, bench, stack)
    for key in options.only or ROWS:
        result.rows.append(_row(key, workshop))
    result.settings["seconds"] = time.monotonic() - started
    return result


def written(result: Result, options: argparse.Namespace) -> None:
    """Print the tables, and write the files that are wanted."""
    print(report.text(result), flush=True)
    if options.json:
        options.json.write_text(json.dumps(result.as_dict(), indent=1) + "\n")
    if options.svg:
        options.svg.write_text(chart.svg(result))
    if options.rst:
        options.rst.write_text(report.rst(result, options.chart))


def _row(key: str, workshop: Workshop) -> Row:
    started = time.monotonic()
    _say(f"{key}:")
    try:
        row = ROWS[key](workshop)
    except MeasurementError as e:
        row = Row(key, key, notes=[f"{FAILED}: {e}"])
    _say(f"{key}: {time.monotonic() - started:.0f} seconds")
    return row


def _failed(result: Result) -> bool:
    entries = (entry for row in result.rows for case in row.cases for entry in case.entries)
    notes = (note for row in result.rows for note in row.notes)
    return any(note.startswith(FAILED) for note in notes) or any(
        entry.is_ours and entry.note and not entry.note.startswith(programs.NOT_INSTALLED)
        for entry in entries
    )


def _folder(parent: Path | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="benchmarks-", dir=parent))
    # The web servers' users read trees in it.
    folder.chmod(0o755)
    return folder


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)

    def add(name: str, words: str, **more: Any) -> None:
        parser.add_argument(name, help=words, **more)

    add("--quick", "a tenth of the data, once: in two minutes", action="store_true")
    add("--only", "measure this row; several times for several", action="append", choices=ROWS)
    add(
        "--runs",
        "runs of each contender (default: 5, of servers 3; with --quick 1)",
        type=int,
        metavar="N",
    )
    add("--json", "write all raw figures", type=Path, metavar="FILE")
    add("--svg", "write a chart", type=Path, metavar="FILE")
    add("--rst", "write the tables as reStructuredText", type=Path, metavar="FILE")
    add("--chart", "the chart's path in --rst", metavar="PATH")
    add("--data", "keep the images here, for the next time", type=Path, metavar="DIR")
    add("--folder", "measure on the disk of this directory", type=Path, metavar="DIR")
    add("--drop-caches", "empty the page cache before each run (root)", action="store_true")
    options = parser.parse_args(arguments)
    if options.drop_caches and os.getuid():
        parser.error("--drop-caches needs root")
    return options


if __name__ == "__main__":
    sys.exit(main())
