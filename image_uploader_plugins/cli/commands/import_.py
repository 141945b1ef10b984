# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader import``."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from image_uploader_plugins import errors, loader
from image_uploader_plugins.archives import open_archive
from image_uploader_plugins.archives.importing.importer import inspect
from image_uploader_plugins.archives.importing.plan import Name, plan
from image_uploader_plugins.cli import arguments, reporting
from image_uploader_plugins.cli.base import Command
from image_uploader_plugins.text import one_line


class Import(Command):
    """Copy images from a directory or tar file to the configured driver.

    SOURCE is an OCI layout, as a directory or a tar, or what docker save and
    podman save write.  A tar may be compressed (gzip, bzip2, xz, zstd), and
    come through a pipe: - is standard input.  Everything that is to be
    imported is read and verified before the first image is copied.  Blobs that
    SOURCE lacks, since it was exported with --since, are taken from the target.
    """

    examples = (
        "image-uploader import carried.tar",
        "image-uploader import saved.tar.zst --as tools/builder:1.0",
        "image-uploader import - < saved.tar",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "source", type=Path, metavar="SOURCE", help="directory, tar, or - (standard input)"
        )
        parser.add_argument(
            "images",
            nargs="*",
            metavar="IMAGE",
            help="import these alone: names or digests as SOURCE has them, also with * and ? "
            "(default: all)",
        )
        parser.add_argument(
            "--as",
            dest="name",
            type=_name,
            metavar="REPOSITORY[:TAG]",
            help="what to call the image, or just the repository for images that have tags "
            "(default: the names in SOURCE, without a host)",
        )
        parser.add_argument(
            "--sparse",
            action="store_true",
            help="accept lists of platforms of which SOURCE has just some",
        )
        reporting.add_arguments(parser)
        reporting.add_format(parser, "-f")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        reports = reporting.Reporting(self, "import", parsed_args)
        with (
            reports.run() as journal,
            contextlib.closing(
                open_archive(parsed_args.source, sparse=parsed_args.sparse)
            ) as archive,
        ):
            inspected = inspect(archive, plan(archive, parsed_args.images, parsed_args.name))
            with loader.load_driver(self.conf) as driver, reports.copying():
                inspected.copy_to(driver, loader.selected(self.conf), journal)
            for note in archive.notes:
                self.app.LOG.warning("%s", note)
            journal.entries_left = tuple(map(one_line, archive.skipped))
            if archive.skipped:
                raise _left_out(parsed_args.source, journal.entries_left)


def _left_out(source: Path, images: Sequence[str]) -> errors.ArchiveInvalid:
    """Return an error that has a line for each image that was not imported."""
    error = errors.ArchiveInvalid(source, f"not imported: {'; '.join(images)}")
    error.lines = tuple(f"{source}: not imported: {image}" for image in images)
    return error


def _name(text: str) -> Name:
    return arguments.typed(Name.parse, text)
