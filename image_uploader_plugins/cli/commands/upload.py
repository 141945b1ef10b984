# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader upload``."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import Any

from image_uploader_plugins import errors, loader
from image_uploader_plugins.cli import reporting
from image_uploader_plugins.cli.base import Command, tripleo
from image_uploader_plugins.cli.copy_options import (
    add_cleanup,
    add_options,
    all_platforms,
    copy_options,
)
from image_uploader_plugins.lists import image_list
from image_uploader_plugins.runs.journal import Journal


class Upload(Command):
    """Copy the images that yaml files list under container_images.

    Each entry has an imagename and maybe: uploader (a driver, or "python" for
    tripleo-common's own push to a registry; default: the configured driver),
    pull_source, push_destination, multi_arch, platforms, names (full or path),
    signatures, artifact_types, foreign_layers, modify_role, modify_vars,
    modify_append_tag.
    tripleo-common has to be installed just for lists with uploader: python,
    modify_role or images of containers-storage.
    """

    examples = (
        "image-uploader upload images.yaml",
        "image-uploader upload --multi-arch infra.yaml monitoring.yaml",
        "image-uploader upload --platform linux/amd64,linux/arm64 images.yaml",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("files", nargs="+", metavar="FILE", help="yaml with container_images")
        add_options(parser, multi_arch=True)
        add_cleanup(parser)
        reporting.add_arguments(parser)
        reporting.add_format(parser, "-f")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        reports = reporting.Reporting(self, "upload", parsed_args)
        with reports.run() as journal, reports.copying():
            self._upload(parsed_args, journal)

    def _upload(self, parsed_args: argparse.Namespace, journal: Journal) -> None:
        conf, names = self.conf, parsed_args.files
        lists = image_list.read(names)
        wanted: dict[str, Any] = {
            "multi_arch": all_platforms(parsed_args),
            "journal": journal,
            "options": copy_options(parsed_args),
        }
        if needed := image_list.needs_tripleo(lists, loader.selected(conf)):
            with _naming(needed):
                module = tripleo()
            module.upload_files(names, conf, cleanup=parsed_args.cleanup, **wanted)
        else:
            # Its help needs nothing that copies.
            from image_uploader_plugins.lists import uploads  # noqa: PLC0415

            uploads.upload(lists, conf, **wanted)


@contextlib.contextmanager
def _naming(needed: str) -> Iterator[None]:
    """Have a ConfigurationError begin with what tripleo-common is ``needed`` for."""
    try:
        yield
    except errors.ConfigurationError as e:
        raise errors.ConfigurationError(f"{needed}: {e}") from e
