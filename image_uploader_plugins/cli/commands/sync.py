# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader sync``."""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import shutil
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from image_uploader_plugins import errors, files, loader
from image_uploader_plugins.cli import arguments, copy_progress, formats, progress, reporting
from image_uploader_plugins.cli.base import ROOT_VARIABLE, Command
from image_uploader_plugins.cli.copy_options import add_options, copy_options
from image_uploader_plugins.lists import share
from image_uploader_plugins.runs.journal import Journal

if TYPE_CHECKING:
    from image_uploader_plugins.sync.planning import Plan
    from image_uploader_plugins.sync.synchronization import SyncOptions
    from image_uploader_plugins.sync.wanted import Wanted

_WORK = 2  # the status of --check where there is work
_SYSTEMD, _SCHEMA = "systemd", "schema"
_FOR_COPIES = ("report", "metrics")


class Sync(Command):
    """Make the configured driver's target have the images that are named, and those of lists.

    REFERENCE means what docker and podman mean by it: nginx is
    docker.io/library/nginx:latest. A list is our own YAML (--print schema
    prints its schema), the YAML of skopeo sync, a yaml file with
    container_images, or one reference a line.

    Registries are asked first which digests their tags have, and only what
    changed is fetched, with the signatures and whatever else describes it.
    Where all that comes cannot fit, nothing is copied. Of the repositories
    that a list mirrors, tags that are no longer wanted are deleted once
    everything else has succeeded. An image that fails does not keep the
    others back.
    """

    examples = (
        "image-uploader sync quay.io/prometheus/node-exporter:v1.8.1 docker.io/library/nginx:1.27",
        "image-uploader sync -f images.yaml --plan",
        "image-uploader sync -f images.yaml --platform linux/amd64 --platform linux/arm64",
        "image-uploader sync -f images.yaml --check || test $? -eq 2",
        "image-uploader sync -f /etc/image-uploader/images.yaml --print systemd",
    )
    notes = (
        "With --check the exit status is 2 where there is work, and 1 where something failed; "
        "nothing is done."
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "references", nargs="*", metavar="REFERENCE", help="an image of a registry"
        )
        parser.add_argument(
            "-f",
            "--file",
            action="append",
            default=[],
            metavar="LIST",
            help="a list of images, - for standard input; may be given several times",
        )
        _add_modes(parser)
        add_options(parser, platforms="all")
        _add_guards(parser)
        reporting.add_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.print == _SCHEMA:
            # Only this needs it.
            from image_uploader_plugins.sync.schema import text  # noqa: PLC0415

            self.app.stdout.write(text())
            return 0
        if not parsed_args.references and not parsed_args.file:
            self.misused("name an image, or a list with -f")
        if parsed_args.print:
            self.app.stdout.write(self._units(parsed_args))
            return 0
        if parsed_args.plan or parsed_args.check:
            return self._plan(parsed_args)
        self._sync(parsed_args)
        return 0

    def _sync(self, parsed_args: argparse.Namespace) -> None:
        # Its help needs nothing that copies.
        from image_uploader_plugins.sync.synchronization import Synchronization  # noqa: PLC0415

        reports = reporting.Reporting(self, "sync", parsed_args)
        with reports.run() as journal, reports.copying():
            wanted, options = self._wanted(parsed_args), _options(parsed_args)
            with Synchronization.opened(wanted, self.conf, journal, options) as run:
                run.run()

    def _plan(self, parsed_args: argparse.Namespace) -> int:
        from image_uploader_plugins.sync import plan_output  # noqa: PLC0415
        from image_uploader_plugins.sync.synchronization import Synchronization  # noqa: PLC0415

        for name in _FOR_COPIES:
            if getattr(parsed_args, name):
                self.misused(f"--{name} is for runs that copy, not for --plan or --check")
        journal = Journal(meter=self.meter)
        shown = progress.on_terminal(self.app.stderr) and not self.quiet
        wanted, options = self._wanted(parsed_args), _options(parsed_args)
        with Synchronization.opened(wanted, self.conf, journal, options) as run:
            with copy_progress.copying(self.app.stderr, journal, quiet=not shown):
                plan = run.plan()
            if parsed_args.plan:
                self._tell(plan, parsed_args.format)
            elif not self.quiet:
                print(plan_output.counts(plan), file=self.app.stdout)
            run.check_plan(plan)
        return _WORK if parsed_args.check and plan.is_work else 0

    def _tell(self, plan: Plan, form: str) -> None:
        from image_uploader_plugins.sync import plan_output  # noqa: PLC0415

        if form == formats.TEXT:
            print("\n".join(plan_output.text(plan)), file=self.app.stdout)
        else:
            self.app.stdout.write(formats.written(plan_output.as_dict(plan), form))

    def _units(self, parsed_args: argparse.Namespace) -> str:
        from image_uploader_plugins.local_export import options  # noqa: PLC0415
        from image_uploader_plugins.sync import systemd  # noqa: PLC0415

        if files.STANDARD_INPUT in parsed_args.file:
            self.misused("a service has no standard input: name a list with -f")
        self._wanted(parsed_args)  # or the service would fail
        written = [path.absolute().parent for path in _written(parsed_args)]
        root, variables = None, {}
        if loader.selected(self.conf) == options.DRIVER:
            root = Path(options.values(self.conf).root)
            if os.environ.get(ROOT_VARIABLE):
                variables = {ROOT_VARIABLE: str(root)}
        command = [*self._program(), *_words(parsed_args)]
        return systemd.units(command, root, written, _owner(root), variables)

    def _wanted(self, parsed_args: argparse.Namespace) -> Wanted:
        from image_uploader_plugins.sync import reading  # noqa: PLC0415

        try:
            named = reading.named(parsed_args.references)
        except errors.ConfigurationError as e:
            self.misused(str(e))
        return reading.read_with(parsed_args.file, named)

    def _program(self) -> list[str]:
        """Return the beginning of a command line: the program, its configuration, the command."""
        beside = Path(sys.executable).with_name(self.app.NAME)
        program = beside if beside.exists() else Path(shutil.which(self.app.NAME) or sys.argv[0])
        files = [str(Path(name).absolute()) for name in self.app.options.config_file or ()]
        return [str(program.absolute()), *_each("--config-file", files), str(self.cmd_name)]


def _options(parsed_args: argparse.Namespace) -> SyncOptions:
    from image_uploader_plugins.sync.synchronization import SyncOptions  # noqa: PLC0415

    return SyncOptions(
        copy_options(parsed_args), parsed_args.max_share, not parsed_args.no_space_check
    )


def _add_modes(parser: argparse.ArgumentParser) -> None:
    """Add what is done instead of copying."""
    parser.add_argument(
        "--plan",
        action="store_true",
        help="tell what would be copied and deleted, and what that takes; change nothing",
    )
    formats.add_option(parser, what="the plan, or what --report writes,")
    parser.add_argument(
        "--check",
        action="store_true",
        help="end with status 2 if there is work; change nothing",
    )
    parser.add_argument(
        "--print",
        choices=(_SCHEMA, _SYSTEMD),
        help="print the schema of our own lists, or a service and a timer of systemd that run "
        "this command line every day; change nothing",
    )


def _add_guards(parser: argparse.ArgumentParser) -> None:
    """Add what may not happen."""
    arguments.add_max_share(
        parser,
        "delete nothing of a repository that a list mirrors where more than this share of its tags "
        "would go",
    )
    parser.add_argument(
        "--no-space-check",
        action="store_true",
        help="copy even if the target's file system has too little space for all that comes",
    )


def _words(parsed_args: argparse.Namespace) -> list[str]:
    """Return the arguments of a command line that copies, all paths absolute."""
    values = vars(parsed_args)
    flags = ("no_signatures", "full_names", "foreign_layers", "check_present", "no_space_check")
    words = _each("-f", [str(Path(name).absolute()) for name in parsed_args.file])
    words += _each("--platform", map(str, parsed_args.platform or ()))
    words += _each("--referrers", parsed_args.referrers)
    words += [f"--{name.replace('_', '-')}" for name in flags if values[name]]
    if parsed_args.max_share != Fraction(share.DEFAULT):
        words += ["--max-share", f"{float(parsed_args.max_share):.9f}"]
    for name in _FOR_COPIES:
        words += _each(f"--{name}", [str(values[name].absolute())] if values[name] else [])
    return [*words, *parsed_args.references]


def _each(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def _written(parsed_args: argparse.Namespace) -> list[Path]:
    return [path for name in _FOR_COPIES if (path := vars(parsed_args)[name])]


def _owner(root: Path | None) -> str | None:
    """Return who owns a tree, if it is there and is not root's."""
    with contextlib.suppress(OSError, KeyError):
        owner = root.stat().st_uid if root else 0
        return pwd.getpwuid(owner).pw_name if owner else None
    return None
