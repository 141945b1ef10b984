# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader export``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from image_uploader_plugins import files
from image_uploader_plugins.archives.exporting.exporter import Exporter, Outcome, list_blobs
from image_uploader_plugins.archives.exporting.known_blobs import known_blobs
from image_uploader_plugins.cli import arguments, formats, progress
from image_uploader_plugins.cli.base import Command
from image_uploader_plugins.cli.local_tree import LocalTree
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.patterns import HELP, Pattern
from image_uploader_plugins.units import plural, size


class Export(LocalTree, Command):
    """Write images of a tree of local-export to an OCI layout, for image-uploader import.

    DEST is a directory, new or of an earlier export, or a tar where it ends
    in .tar.  It then holds just these images, under their full names, with
    what refers to them.  In a directory on the tree's file system blobs are
    hard links.  Images that cannot be exported, such as those with a manifest
    of schema 1, are left out and named; the exit status is then 1.
    """

    examples = (
        "image-uploader export carried.tar",
        "image-uploader export carried 'openstack/*' base:1.0",
        "image-uploader export --list-blobs there.txt",
        "image-uploader export --since there.txt carried.tar",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("destination", type=Path, metavar="DEST", help="directory or .tar file")
        parser.add_argument(
            "images",
            nargs="*",
            type=arguments.pattern,
            metavar="IMAGE",
            help=f"export what fits one of these alone (default: all): {HELP}",
        )
        parser.add_argument(
            "--since",
            action="append",
            default=[],
            type=Path,
            metavar="OTHER",
            help="leave out blobs that the other side has: those in a layout or archive, or in a "
            "file with a digest on each line; may be given several times",
        )
        parser.add_argument(
            "--list-blobs",
            action="store_true",
            help="write a list for --since to DEST instead, or to standard output for -: "
            "the digest of each blob here",
        )
        parser.add_argument(
            "--copy", action="store_true", help="copy blobs also where hard links are possible"
        )
        formats.add_option(parser, "-f")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        with self.leasing_tree(parsed_args) as tree:
            if parsed_args.list_blobs:
                return self._list_blobs(tree, parsed_args.destination, parsed_args.images)
            self._check_since(parsed_args.destination, parsed_args.since)
            known = known_blobs(parsed_args.since)
            exporter = Exporter(tree, copied=parsed_args.copy, meter=self.meter)
            with progress.metered(self.app.stderr, self.meter, quiet=self.quiet):
                outcome = exporter.export(parsed_args.destination, parsed_args.images, known)
        if parsed_args.format == formats.TEXT:
            self._tell(outcome)
        else:
            result = {**dataclasses.asdict(outcome), "problems": list(outcome.problems)}
            self.app.stdout.write(formats.written(result, parsed_args.format))
        return self._complain(outcome.problems)

    def _list_blobs(self, tree: Tree, path: Path, patterns: Sequence[Pattern]) -> int:
        with progress.metered(self.app.stderr, self.meter, quiet=self.quiet):
            digests, problems = list_blobs(tree, patterns, self.meter)
        text = "".join(f"{digest}\n" for digest in digests)
        if str(path) == "-":
            self.app.stdout.write(text)
        else:
            files.write(path, text)
        print(f"{len(digests)} blobs listed", file=self.app.stderr)
        return self._complain(problems)

    def _tell(self, outcome: Outcome) -> None:
        sparse = f"; of {plural(outcome.sparse, 'image')} some platforms are not here"
        print(
            f"{outcome.images} images, {outcome.blobs} blobs ({size(outcome.bytes_blobs)}), "
            f"{outcome.known} that the other side has ({size(outcome.bytes_known)}) left out"
            + (sparse if outcome.sparse else ""),
            file=self.app.stderr,
        )

    def _complain(self, problems: Sequence[str]) -> int:
        for problem in problems:
            self.app.LOG.error("not exported: %s", problem)
        return 1 if problems else 0

    def _check_since(self, destination: Path, since: Sequence[Path]) -> None:
        """Refuse the destination as what the other side has.

        It may hold blobs of an export that was cut short, which the other side lacks.
        """
        if destination.resolve() in {path.resolve() for path in since}:
            self.misused(f"{destination}: --since must be another one than DEST")
