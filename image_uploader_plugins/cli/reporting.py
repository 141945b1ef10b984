# SPDX-License-Identifier: Apache-2.0
"""Reporting of a command that copies: progress, --report and --metrics."""

from __future__ import annotations

import argparse
import contextlib
import json
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from image_uploader_plugins import errors, files, loader
from image_uploader_plugins.cli import formats, progress
from image_uploader_plugins.cli.base import Command
from image_uploader_plugins.cli.interruption import Interruption
from image_uploader_plugins.extras import require
from image_uploader_plugins.runs import report
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import Ending, RunRecord
from image_uploader_plugins.units import plural

_SUFFIX = ".prom"  # node_exporter reads no others


def add_format(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the option that has the report written to standard output."""
    formats.add_option(parser, *names, what="what --report writes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that name files for reports."""
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="write what became of each image to this file, as JSON, whatever happens",
    )
    parser.add_argument(
        "--metrics",
        type=Path,
        metavar=f"FILE{_SUFFIX}",
        help="write metrics of the run and the target to this file, for the textfile collector "
        "of Prometheus' node_exporter",
    )


class Reporting:
    """One run of ``command``, called ``name``, reported as its arguments say."""

    def __init__(self, command: Command, name: str, parsed_args: argparse.Namespace) -> None:
        self.journal = Journal(meter=command.meter)
        self._command = command
        self._name = name
        self._report: Path | None = parsed_args.report
        self._metrics: Path | None = parsed_args.metrics
        self._format: str = getattr(parsed_args, "format", formats.TEXT)
        self._writers: types.ModuleType | None = None
        if self._metrics:
            self._writers = require("metrics", "image_uploader_plugins.runs.metrics")

    @contextlib.contextmanager
    def run(self) -> Iterator[Journal]:
        """Return a context for the whole run; its files are written at the end, however it ends.

        Raises ConfigurationError at the beginning where they cannot be
        written.
        """
        if self._metrics and self._metrics.suffix != _SUFFIX:
            self._command.misused(f"--metrics {self._metrics}: the name must end in {_SUFFIX}")
        for path in filter(None, (self._report, self._metrics)):
            files.check_writable(path)
        try:
            yield self.journal
        except BaseException as e:
            ending = Ending.INTERRUPTED if isinstance(e, Interruption) else Ending.FAILED
            if ending is Ending.FAILED and self.journal.images:
                self._sum_up()
            try:
                self._write(ending, str(e) or type(e).__name__)
            except errors.UploaderError as second:
                self._command.app.LOG.error("%s", second)
            raise
        self._write(Ending.SUCCEEDED, None)
        self._sum_up()

    def _sum_up(self) -> None:
        options = self._command.app.options
        if options.summary or not self._command.quiet:
            lines = [f"{image}: deleted" for image in self.journal.deleted]
            deleted = f"; {plural(len(lines), 'tag')} deleted" if lines else ""
            with contextlib.suppress(OSError):  # nobody may be looking any more
                lines.append(f"{self.journal.totals()}{deleted}")
                print("\n".join(lines), file=self._command.app.stderr)

    def copying(self) -> contextlib.AbstractContextManager[object]:
        """Return a context for that part of the run that copies: its progress is shown."""
        return progress.copying(self._command.app.stderr, self.journal, quiet=self._command.quiet)

    def _write(self, ending: Ending, why: str | None) -> None:
        run = self.journal.run(self._name, ending, why)
        if self._report:
            files.write(self._report, report.parts(run), private=True)
        if self._format == formats.JSON:
            self._command.app.stdout.writelines(report.parts(run))
        elif self._format == formats.YAML:
            told = json.loads("".join(report.parts(run)))
            self._command.app.stdout.write(formats.written(told, self._format))
        if self._metrics and self._writers:
            files.write(self._metrics, self._metrics_text(self._writers, self._metrics, run))

    def _metrics_text(self, writers: types.ModuleType, path: Path, run: RunRecord) -> str:
        census = self._census()
        try:
            return str(writers.text(run, census, files.text_if_any(path)))
        except ValueError as e:
            self._command.app.LOG.warning("%s: begun anew, it cannot be read: %s", path, e)
            return str(writers.text(run, census))

    def _census(self) -> Any:
        try:
            with loader.load_driver(self._command.conf) as driver:
                return driver.census()
        except errors.UploaderError as e:
            self._command.app.LOG.warning("no metrics of the target: %s", e)
            return None
