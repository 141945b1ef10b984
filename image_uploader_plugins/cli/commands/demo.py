# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from image_uploader_plugins.cli.base import Command, tripleo


class Demo(Command):
    """Copy a few images made on the spot into a tree, serve it and pull everything back.

    Needs no network and leaves nothing behind, unless --root says where.
    """

    examples = ("image-uploader demo", "image-uploader demo --root /tmp/image-serve")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "--root", type=Path, metavar="DIR", help="keep the tree in this directory"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        tripleo()
        from image_uploader_plugins import demonstration  # noqa: PLC0415

        root = parsed_args.root.absolute() if parsed_args.root else None
        demonstration.run(root, lambda text: print(text, file=self.app.stdout))
