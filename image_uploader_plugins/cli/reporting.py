# SPDX-License-Identifier: Apache-2.0
"""Reporting: progress, --report and --metrics of commands that copy, --metrics of others."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

from image_uploader_plugins import errors, files, loader
from image_uploader_plugins.cli import copy_progress, formats
from image_uploader_plugins.cli.base import Command
from image_uploader_plugins.cli.interruption import Interruption
from image_uploader_plugins.driver import Census
from image_uploader_plugins.extras import require
from image_uploader_plugins.runs import report
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.runs.records import Ending, RunRecord, UpkeepRecord
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
    add_metrics(parser)


def add_metrics(parser: argparse.ArgumentParser) -> None:
    """Add the option that names a file for metrics."""
    parser.add_argument(
        "--metrics",
        type=Path,
        metavar=f"FILE{_SUFFIX}",
        help="write metrics of the run and the target to this file, for the textfile collector "
        "of Prometheus' node_exporter",
    )


class _MetricsFile:
    """The file of ``--metrics`` that the runs of a machine share, if it was asked for."""

    def __init__(self, command: Command, path: Path | None) -> None:
        self._command = command
        self.path = path
        self._writers: types.ModuleType | None = None
        if path:
            self._writers = require("metrics", "image_uploader_plugins.runs.metrics")

    def check(self) -> None:
        """Raise ConfigurationError where it cannot be written."""
        if self.path and self.path.suffix != _SUFFIX:
            self._command.misused(f"--metrics {self.path}: the name must end in {_SUFFIX}")
        if self.path:
            files.check_writable(self.path)

    def write(self, run: RunRecord | UpkeepRecord, count: Callable[[], Census | None]) -> None:
        """Write a run, and the target as ``count`` says that it is; raises ConfigurationError.

        Of another run that ends meanwhile, nothing is lost.
        """
        if not (self.path and self._writers):
            return
        census = self.counted(count)
        with files.locked(self.path.parent):
            files.write(self.path, self._text(self._writers, self.path, run, census))

    def counted(self, count: Callable[[], Census | None]) -> Census | None:
        """Return what is counted; None, with a warning, where that cannot be read."""
        try:
            return count()
        except errors.UploaderError as e:
            self._command.app.LOG.warning("no metrics of the target: %s", e)
            return None

    def _text(
        self,
        writers: types.ModuleType,
        path: Path,
        run: RunRecord | UpkeepRecord,
        census: Census | None,
    ) -> str:
        try:
            return str(writers.text(run, census, files.text_if_any(path)))
        except ValueError as e:
            self._command.app.LOG.warning("%s: begun anew, it cannot be read: %s", path, e)
            return str(writers.text(run, census))


class Reporting:
    """One run of ``command``, called ``name``, reported as its arguments say."""

    def __init__(self, command: Command, name: str, parsed_args: argparse.Namespace) -> None:
        self.journal = Journal(meter=command.meter)
        self._command = command
        self._name = name
        self._report: Path | None = parsed_args.report
        self._metrics = _MetricsFile(command, parsed_args.metrics)
        self._format: str = getattr(parsed_args, "format", formats.TEXT)

    @contextlib.contextmanager
    def run(self) -> Iterator[Journal]:
        """Return a context for the whole run; its files are written at the end, however it ends.

        Raises ConfigurationError at the beginning where they cannot be
        written.
        """
        self._metrics.check()
        if self._report:
            files.check_writable(self._report)
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
        command = self._command
        return copy_progress.copying(command.app.stderr, self.journal, quiet=command.quiet)

    def _write(self, ending: Ending, why: str | None) -> None:
        run = self.journal.run(self._name, ending, why)
        if self._report:
            files.write(self._report, report.parts(run), private=True)
        if self._format == formats.JSON:
            self._command.app.stdout.writelines(report.parts(run))
        elif self._format == formats.YAML:
            told = json.loads("".join(report.parts(run)))
            self._command.app.stdout.write(formats.written(told, self._format))
        self._metrics.write(run, self._census)

    def _census(self) -> Census | None:
        with loader.load_driver(self._command.conf) as driver:
            return driver.census()


class Upkeep:
    """One run of a command that looks after a tree, of which ``--metrics`` tells.

    The command sets ``is_well`` where it ends with another status than 0
    without an error, ``bytes_freed`` and ``findings``.
    """

    def __init__(self, command: Command, parsed_args: argparse.Namespace) -> None:
        self.is_well = True
        self.bytes_freed: int | None = None
        self.findings: Mapping[str, int] = {}
        self._command = command
        self._metrics = _MetricsFile(command, parsed_args.metrics)
        self._census: Census | None = None

    @contextlib.contextmanager
    def run(self) -> Iterator[Self]:
        """Return a context for the whole run; the metrics are written, however it ends."""
        self._metrics.check()
        started, start = time.time(), time.monotonic()

        def write(*, is_well: bool) -> None:
            seconds = time.monotonic() - start
            name, freed = str(self._command.cmd_name), self.bytes_freed
            record = UpkeepRecord(name, started, seconds, is_well, freed, self.findings)
            self._metrics.write(record, lambda: self._census)

        try:
            yield self
        except BaseException:
            try:
                write(is_well=False)
            except errors.UploaderError as second:
                self._command.app.LOG.error("%s", second)
            raise
        write(is_well=self.is_well and not self._command.has_complained)

    def count(self, census: Callable[[], Census]) -> None:
        """Have a tree counted, if the metrics are to tell what it holds."""
        if self._metrics.path:
            self._census = self._metrics.counted(census)
