# SPDX-License-Identifier: Apache-2.0
"""The program ``image-uploader``: options, logging and exit statuses of all subcommands."""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import logging
import os
from collections.abc import Sequence
from typing import Any

import autopage.argparse
from cliff import app
from cliff import help as cliff_help

from image_uploader_plugins.cli.command_list import CommandList
from image_uploader_plugins.cli.commands.help import Complete, Help
from image_uploader_plugins.text import one_line, printable, redacted

COMMANDS = "image_uploader_plugins.commands"
DISTRIBUTION = "image-uploader-plugins"

_WRONG_USAGE = 2
_STATUSES = (
    "The exit status is 0 when all is well, 1 when something is wrong or failed, 2 for a wrong "
    "command line, 130 or 143 after SIGINT or SIGTERM, and 141 when nobody reads the output."
)
# What is shown with -q, without an option, with -v and with -vv.
_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)
_VERBOSE = _LEVELS.index(logging.INFO)
_COLORS = ("\x1b[4m", "\x1b[36m", "\x1b[0m")  # of a title, of a name, of neither


class PrintableFormatter(logging.Formatter):
    """A formatter that makes each message one line without secrets and control characters.

    Any library may log a server's answer, or a URL with a password. A traceback
    keeps its lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        # NOTE: logging keeps the traceback that another formatter has made of it.
        own = copy.copy(record)
        own.exc_text = None
        return super().format(own)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the message as one printable line."""
        return one_line(redacted(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:
        lines = redacted(super().formatException(ei)).splitlines()
        return "\n".join(printable(line) for line in lines)


class _Version(argparse.Action):
    """Prints the version, which is looked up among all that is installed, for this alone."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **kwargs)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(Main.NAME, importlib.metadata.version(DISTRIBUTION))
        parser.exit()


def _is_ours(record: logging.LogRecord) -> bool:
    """Tell whether a record is of this package, or a warning of any."""
    ours = record.name.partition(".")[0] in (Main.NAME, __name__.partition(".")[0])
    return ours or record.levelno >= logging.WARNING


class Main(app.App):
    """Copies container images to where machines can pull them from."""

    NAME = "image-uploader"
    LOG = logging.getLogger(NAME)
    command_manager: CommandList

    # Errors are one line; --debug adds the traceback.
    CONSOLE_MESSAGE_FORMAT = "%(levelname)s: %(message)s"

    def __init__(self) -> None:
        super().__init__(
            description=str(self.__doc__),
            version=None,
            command_manager=CommandList(COMMANDS),
            deferred_help=True,
        )
        self.command_manager.add_command("help", Help)
        self.command_manager.add_command("complete", Complete)

    def configure_logging(self) -> None:
        super().configure_logging()
        verbosity = self.options.verbose_level
        root = logging.getLogger()
        for handler in root.handlers:
            if not (handler.formatter and type(handler.formatter) is logging.Formatter):
                continue  # somebody else's
            form = handler.formatter._fmt or ""
            if type(handler) is logging.StreamHandler:
                handler.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
                if verbosity == _VERBOSE:
                    handler.addFilter(_is_ours)
                if verbosity >= _VERBOSE:
                    form = f"%(asctime)s {form}"
            handler.setFormatter(PrintableFormatter(form))
        # Or urllib3 makes a record of each request, for nobody.
        root.setLevel(max(logging.DEBUG, min(handler.level for handler in root.handlers)))

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: object = None
    ) -> argparse.ArgumentParser:
        settings = {"prog": self.NAME, "epilog": _STATUSES, "allow_abbrev": False}
        settings["conflict_handler"] = "resolve"  # cliff has an option --version, too
        parser: argparse.ArgumentParser = super().build_option_parser(
            description, version, settings
        )
        parser.add_argument("--version", action=_Version, help="show the version and exit")
        parser.add_argument(
            "--config-file",
            action="append",
            metavar="FILE",
            help="oslo.config file to read, may be given several times "
            "(default: image-uploader.conf in ~/.image-uploader, ~, /etc/image-uploader or /etc)",
        )
        parser.add_argument(
            "--summary",
            action="store_true",
            help="tell of a run what came of it in one line, also with -q",
        )
        return parser

    def initialize_app(self, argv: list[str]) -> None:
        # Without a command cliff would open a shell of its own.
        self.options.deferred_help |= not argv

    def print_help_if_requested(self) -> None:
        if self.options.deferred_help:
            self.print_help()
            raise cliff_help.HelpExit

    def print_help(self) -> None:
        """Print how the program is called, and what each command does.

        NOTE: cliff's own imports all commands, and reads what files all packages have.
        """
        pager = autopage.argparse.help_pager(self.stdout)
        has_colors = pager.to_terminal()
        autopage.argparse.use_color_for_parser(self.parser, has_colors)
        title, named, end = _COLORS if has_colors and "NO_COLOR" not in os.environ else ("", "", "")
        with pager as out:
            self.parser.print_help(out)
            out.write(f"\n{title}Commands{end}:\n")
            for name, text in self.command_manager.described():
                out.write(f"  {named}{name:<13}{end}  {text}\n")

    def run_subcommand(self, argv: list[str]) -> int:
        """Run a command; return its exit status, 1 for one that cannot be loaded."""
        try:
            self.command_manager.find_command(argv)
        except ValueError:
            return self.refuse(argv[0])
        except Exception as e:
            if self.options.debug:
                raise
            self.LOG.error("%s cannot be loaded: %s", argv[0], e)
            return 1
        return int(super().run_subcommand(argv))

    def refuse(self, name: str) -> int:
        """Report that there is no command ``name``, and which look like it; return the status."""
        # For mistakes alone.
        import difflib  # noqa: PLC0415

        kind = "option" if name.startswith("-") else "command"
        names = sorted(command for command, _ in self.command_manager)
        alike = [n for n in names if n.startswith(name)] or difflib.get_close_matches(name, names)
        hint = f"did you mean {' or '.join(alike)}? " if alike else ""
        message = f"there is no {kind} {name!r}: {hint}{self.NAME} --help lists them"
        self.LOG.error(message)
        return _WRONG_USAGE
