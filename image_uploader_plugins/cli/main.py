"""The command itself: what all subcommands share."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import sys
from collections.abc import Sequence
from typing import Any

from cliff import app, commandmanager

from image_uploader_plugins.text import one_line, printable

COMMANDS = "image_uploader_plugins.commands"
DISTRIBUTION = "image-uploader-plugins"

_LINE_LIMIT = 20_000  # characters: one line tells of all images that failed


class PrintableFormatter(logging.Formatter):
    """Messages in one line that a terminal only shows; tracebacks in lines of that kind.

    What is logged may be a server's answer, whoever logs it.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record), _LINE_LIMIT)

    def formatException(self, ei: Any) -> str:
        lines = super().formatException(ei).splitlines()
        return "\n".join(printable(line) for line in lines)


class Main(app.App):
    """Copies container images to where machines can pull them from."""

    # Errors are one line; --debug adds the traceback.
    CONSOLE_MESSAGE_FORMAT = "%(levelname)s: %(message)s"

    def __init__(self) -> None:
        super().__init__(
            description=str(self.__doc__),
            version=importlib.metadata.version(DISTRIBUTION),
            command_manager=commandmanager.CommandManager(COMMANDS),
            deferred_help=True,
        )

    def configure_logging(self) -> None:
        super().configure_logging()
        for handler in logging.getLogger().handlers:
            if self.options.verbose_level == 0 and type(handler) is logging.StreamHandler:
                handler.setLevel(logging.ERROR)  # -q: nothing but errors
            if handler.formatter and type(handler.formatter) is logging.Formatter:
                handler.setFormatter(PrintableFormatter(handler.formatter._fmt))

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: object = None
    ) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().build_option_parser(description, version)
        parser.add_argument(
            "--config-file",
            action="append",
            metavar="FILE",
            help="oslo.config file to read, may be given several times "
            "(default: image-uploader.conf in ~/.image-uploader, ~, /etc/image-uploader or /etc)",
        )
        return parser

    def run(self, argv: list[str]) -> int:
        # Without arguments cliff would open a shell of its own.
        return int(super().run(argv or ["help"]) or 0)


def main(argv: Sequence[str] | None = None) -> int:
    return Main().run(list(sys.argv[1:] if argv is None else argv))
