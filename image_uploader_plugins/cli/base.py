# SPDX-License-Identifier: Apache-2.0
"""The base of all subcommands."""

from __future__ import annotations

import argparse
import functools
import os
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from cliff import command, lister, show

from image_uploader_plugins import errors
from image_uploader_plugins.cli import formats, interruption
from image_uploader_plugins.extras import require
from image_uploader_plugins.meter import Meter

if TYPE_CHECKING:
    from oslo_config import cfg

ROOT_VARIABLE = "IMAGE_UPLOADER_ROOT"
"""Names the tree of local-export, instead of its configuration."""

_PACKAGE = __name__.partition(".")[0]


class HelpFormatter(argparse.HelpFormatter):
    """Fills paragraphs, and leaves indented ones, which are examples, as they are.

    The documentation shows the same text as reStructuredText, which has two
    colons before examples; a terminal gets one.
    """

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            paragraph.rstrip()
            if paragraph.startswith(" ")
            else super(HelpFormatter, self)._fill_text(_one_colon(paragraph), width, indent)
            for paragraph in text.split("\n\n")
            if paragraph.strip()
        )


class Base(command.Command):
    """A subcommand; an error of its own is one line on standard error, and exit status 1.

    ``examples`` are command lines for the end of its help; ``notes`` come
    after them.
    """

    examples: ClassVar[tuple[str, ...]] = ()
    notes = ""
    app: Any
    _status = 0
    _is_conf_checked = False

    @property
    def quiet(self) -> bool:
        """Tell whether only errors and results are to be printed (``-q``)."""
        return int(self.app.options.verbose_level) == 0

    @functools.cached_property
    def meter(self) -> Meter:
        """Return the meter of the command's work; a signal stops it."""
        return Meter()

    @property
    def conf(self) -> cfg.ConfigOpts:
        """Return the options of all sections, read anew; raise ConfigurationError.

        Where local-export is the driver, the environment may name its tree.
        """
        # Help, and commands that read no configuration, do without oslo.config.
        from image_uploader_plugins import loader  # noqa: PLC0415

        conf = loader.load_conf(config_files=self.app.options.config_file)
        if not self._is_conf_checked:
            self._is_conf_checked = True
            for problem in loader.unknown_options(conf):
                self.app.LOG.warning("%s", problem)
        if root := os.environ.get(ROOT_VARIABLE):
            _choose_root(conf, root)
        return conf

    def misused(self, problem: str) -> NoReturn:
        """End the command for a command line that makes no sense, with status 2."""
        self._parser.error(problem)

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.formatter_class = HelpFormatter
        self._parser = parser
        return parser

    def get_epilog(self) -> str:
        lines = "\n".join(f"  $ {example}" for example in self.examples)
        # NOTE: to say which package a command is of, cliff reads the lists of files of all that
        # are installed.
        is_own = type(self).__module__.startswith(f"{_PACKAGE}.")
        package = "" if is_own else super().get_epilog()
        return "\n\n".join(filter(None, ["Examples::", lines, self.notes, package]))

    def run(self, parsed_args: argparse.Namespace) -> int:
        try:
            with interruption.handled(self.meter.stop):
                return max(int(super().run(parsed_args)), self._status)
        except interruption.Interruption as e:
            self.app.LOG.error("%s", e)
            return interruption.end(e.status)
        except BrokenPipeError:
            raise  # the reader of our output has closed it
        except Exception as e:
            if self.app.options.debug:
                raise
            for line in _lines(e):
                self.complain(line)
            return self._status

    @property
    def has_complained(self) -> bool:
        """Tell whether a problem was reported, so that the exit status will be 1."""
        return bool(self._status)

    def complain(self, problem: object) -> None:
        """Report a problem and go on; the exit status will be 1."""
        self.app.LOG.error("%s", problem)
        self._status = 1


class Command(Base, command.Command):
    """A subcommand that prints its results itself; take_action() may return an exit status."""


class Lister(Base, lister.Lister):
    """A subcommand whose results are rows, in the format that ``-f`` chooses."""

    def produce_output(
        self,
        parsed_args: argparse.Namespace,
        column_names: Sequence[str],
        data: Iterable[Sequence[Any]],
    ) -> int:
        headings = formats.headings(column_names, parsed_args.formatter)
        return super().produce_output(parsed_args, headings, data)


class ShowOne(Base, show.ShowOne):
    """A subcommand whose result is one thing's fields, in the format that ``-f`` chooses."""

    def produce_output(
        self, parsed_args: argparse.Namespace, column_names: Sequence[str], data: Sequence[Any]
    ) -> int:
        headings = formats.headings(column_names, parsed_args.formatter)
        return super().produce_output(parsed_args, headings, data)


def _choose_root(conf: cfg.ConfigOpts, root: str) -> None:
    from image_uploader_plugins import loader  # noqa: PLC0415 - as in Base.conf
    from image_uploader_plugins.local_export import options  # noqa: PLC0415 - for this alone

    if loader.selected(conf) == options.DRIVER:
        options.choose_root(conf, str(Path(root).absolute()))


def tripleo() -> types.ModuleType:
    """Return the seam to tripleo-common; raises ConfigurationError where that is not installed."""
    return require("tripleo", "image_uploader_plugins.tripleo")


def _lines(error: Exception) -> tuple[str, ...]:
    """Return what an error says; of one with which tripleo-common tells ours, what ours says."""
    for each in (error, error.__cause__):
        if isinstance(each, errors.UploaderError) and each.lines:
            return each.lines
    return (_words(error),)


def _words(error: Exception) -> str:
    """Return what an error says; with its name, if it is one of Python's that says little."""
    name = type(error).__name__
    if type(error).__module__ == "builtins" and not isinstance(error, OSError | ValueError):
        return f"{name}: {error} (--debug shows where)"
    return str(error).strip() or name


def _one_colon(paragraph: str) -> str:
    return paragraph[:-1] if paragraph.endswith("::") else paragraph
