# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader prepare``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from image_uploader_plugins import files
from image_uploader_plugins.cli import reporting
from image_uploader_plugins.cli.base import Command, tripleo
from image_uploader_plugins.cli.copy_options import (
    add_cleanup,
    add_options,
    all_platforms,
    copy_options,
)
from image_uploader_plugins.runs.journal import Journal


class Prepare(Command):
    """Do what ContainerImagePrepare in a deployment's environment says.

    As "openstack tripleo container image prepare", with "uploader:" honoured
    in each entry (default: the configured driver; "python" is
    tripleo-common's own push to a registry).  Writes the image parameters,
    which name images as the target has them, as an environment file.  An image
    that fails does not keep the others back, but then no file is written.
    """

    examples = (
        "image-uploader prepare -e containers-prepare-parameter.yaml \\\n"
        "      --output-env-file containers-images-environment.yaml",
        "image-uploader prepare -e containers-prepare-parameter.yaml --dry-run",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "-e",
            "--environment-file",
            action="append",
            required=True,
            metavar="FILE",
            help="environment file; the later of several wins, parameter by parameter",
        )
        parser.add_argument(
            "-r",
            "--roles-file",
            metavar="FILE",
            help="roles data, to prepare just the images of enabled services (default: all images)",
        )
        parser.add_argument(
            "--output-env-file",
            type=Path,
            metavar="FILE",
            help="where to write the image parameters (default: standard output)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="find out the parameters, copy nothing"
        )
        add_options(parser)
        add_cleanup(parser)
        reporting.add_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        if parsed_args.dry_run and parsed_args.metrics:
            self.misused("--metrics is for runs that copy, not for --dry-run")
        reports = reporting.Reporting(self, "prepare", parsed_args)
        with reports.run() as journal:
            with reports.copying():
                parameters = self._prepare(parsed_args, journal)
            self._tell(parameters, parsed_args.output_env_file)

    def _prepare(self, parsed_args: argparse.Namespace, journal: Journal) -> dict[str, Any]:
        roles = files.roles(parsed_args.roles_file) if parsed_args.roles_file else None
        parameters, _ = tripleo().prepare(
            files.environment(parsed_args.environment_file),
            roles,
            dry_run=parsed_args.dry_run,
            cleanup=parsed_args.cleanup,
            conf=self.conf,
            journal=journal,
            options=copy_options(parsed_args),
            multi_arch=all_platforms(parsed_args),
        )
        return dict(parameters)

    def _tell(self, parameters: dict[str, Any], path: Path | None) -> None:
        text = yaml.safe_dump({"parameter_defaults": parameters}, default_flow_style=False)
        if path:
            files.write(path, text)
        else:
            self.app.stdout.write(text)
