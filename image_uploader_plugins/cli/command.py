"""What the subcommands have in common."""

from __future__ import annotations

import argparse
import functools
import types
from typing import Any

from cliff import command, lister, show
from oslo_config import cfg

from image_uploader_plugins import errors, loader
from image_uploader_plugins.cli import interruption
from image_uploader_plugins.meter import Meter

CLEANUP = ("full", "partial", "none")


class _OneLineErrors(command.Command):
    """A subcommand whose errors come out in one line, with exit status 1."""

    app: Any

    @property
    def quiet(self) -> bool:
        """Whether nothing but errors and what was asked for is to be printed."""
        return int(self.app.options.verbose_level) == 0

    @functools.cached_property
    def meter(self) -> Meter:
        """Counts the bytes of what the command does; a signal stops it."""
        return Meter()

    @property
    def conf(self) -> cfg.ConfigOpts:
        """The options; raises ConfigurationError."""
        return loader.load_conf(config_files=self.app.options.config_file)

    def run(self, parsed_args: argparse.Namespace) -> int:
        try:
            with interruption.heeded(self.meter.stop):
                return int(super().run(parsed_args))
        except interruption.Interruption as e:
            self.app.LOG.error("%s", e)
            return interruption.leave(e.status)
        except Exception as e:
            if self.app.options.debug:
                raise
            self.app.LOG.error("%s", str(e) or type(e).__name__)
            return 1


class Command(_OneLineErrors, command.Command):
    """A subcommand that prints what it likes; take_action may return an exit status."""


class Lister(_OneLineErrors, lister.Lister):
    """A subcommand that gives rows, in the format that -f chooses."""


class ShowOne(_OneLineErrors, show.ShowOne):
    """A subcommand that gives one thing's fields, in the format that -f chooses."""


def host() -> types.ModuleType:
    """The seam; raises ConfigurationError where tripleo-common is not installed."""
    try:
        from image_uploader_plugins import tripleo
    except ImportError as e:
        raise errors.ConfigurationError(
            f"{e}: this command needs tripleo-common; pip install 'image-uploader-plugins[tripleo]'"
        ) from e
    return tripleo


def add_cleanup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cleanup",
        choices=CLEANUP,
        default=CLEANUP[0],
        help="what to remove from local storage after images were modified: all of them, "
        "all but the modified ones, or none (default: %(default)s)",
    )
