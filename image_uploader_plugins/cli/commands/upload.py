# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader upload``."""

from __future__ import annotations

import argparse

from image_uploader_plugins.cli import reporting
from image_uploader_plugins.cli.base import Command, tripleo
from image_uploader_plugins.cli.copy_options import add_options, copy_options


class Upload(Command):
    """Copy the images that yaml files list under container_images.

    Each entry has an imagename and maybe: uploader (a driver, or "python" for
    tripleo-common's own push to a registry; default: the configured driver),
    pull_source, push_destination, multi_arch, names (full or path),
    signatures, foreign_layers, modify_role, modify_vars, modify_append_tag.
    """

    examples = (
        "image-uploader upload images.yaml",
        "image-uploader upload --multi-arch infra.yaml monitoring.yaml",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("files", nargs="+", metavar="FILE", help="yaml with container_images")
        parser.add_argument(
            "--multi-arch",
            action="store_true",
            help="copy all platforms of each image whose entry does not say multi_arch itself",
        )
        add_options(parser)
        reporting.add_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        reports = reporting.Reporting(self, "upload", parsed_args)
        with reports.run() as journal, reports.copying():
            tripleo().upload_files(
                parsed_args.files,
                self.conf,
                cleanup=parsed_args.cleanup,
                multi_arch=parsed_args.multi_arch,
                journal=journal,
                options=copy_options(parsed_args),
            )
        if not self.quiet:
            print(journal.totals(), file=self.app.stderr)
