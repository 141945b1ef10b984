# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.cli.base import Command, tripleo
from image_uploader_plugins.extras import require

_PREPARE, _SYNC = "prepare", "sync"


class Demo(Command):
    """Copy a few images made on the spot into a tree, serve it and pull everything back.

    Needs no network and leaves nothing behind, unless --root says where. The
    images come as a deployment's do, with tripleo-common's steps, or as sync
    copies those of a list.
    """

    examples = (
        "image-uploader demo",
        "image-uploader demo --flow sync --root /tmp/image-serve",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "--root", type=Path, metavar="DIR", help="keep the tree in this directory"
        )
        parser.add_argument(
            "--flow",
            choices=(_PREPARE, _SYNC),
            help="how the images come: as prepare or as sync copies them (default: prepare where "
            "tripleo-common is installed, otherwise sync)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        flow = parsed_args.flow or _default()
        if flow == _PREPARE:
            tripleo()
        demonstration = require("serve", "image_uploader_plugins.demonstration")
        root = parsed_args.root.absolute() if parsed_args.root else None
        demonstration.run(
            root, lambda text: print(text, file=self.app.stdout), demonstration.Flow(flow)
        )


def _default() -> str:
    try:
        tripleo()
    except errors.ConfigurationError:
        return _SYNC
    return _PREPARE
