"""``image-uploader list``."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from image_uploader_plugins.cli import cells
from image_uploader_plugins.cli.command import Lister
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import inventory
from image_uploader_plugins.local_export.inventory import Image
from image_uploader_plugins.local_export.patterns import Patterns
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.text import shown

_COLUMNS = (
    *("Repository", "Tag", "Digest", "Kind", "Platforms"),
    *("Size", "Own", "Shared", "Written", "Referrers"),
)


class List(Lister):
    """List the images in the tree of local-export.

    Kind is image, list (an index of images), artifact, schema 1 or damaged.
    Size is what the image is made of, Own what deleting this name would free,
    and Shared the part of the size that others need, too. Written is when the
    tag was last put, by the time of its file. In the table sizes are rounded
    and digests cut short; json, yaml, csv and value have bytes, whole digests
    and times in UTC.

    The exit status is 1 if an image cannot be read, or a pattern is for none.
    """

    examples = (
        "image-uploader list",
        "image-uploader list 'openstack/*' '*:latest'",
        "image-uploader list --all -f json prometheus/node-exporter",
        "image-uploader list --sort-column Own --sort-descending",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "patterns",
            nargs="*",
            metavar="PATTERN",
            help="list these alone: REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST, also with "
            "* and ?",
        )
        parser.add_argument(
            "--all",
            action="store_true",
            help="also manifests without a tag: images of a list, referrers, what was put by "
            "digest",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterator[tuple[Any, ...]]]:
        patterns = Patterns(parsed_args.patterns)
        with contextlib.closing(Tree.existing(self.conf)) as tree:
            untagged = parsed_args.all or any("@" in text for text in parsed_args.patterns)
            images = list(inventory.images(tree, patterns, untagged=untagged))
        for image in images:
            if image.problem:
                self.complain(f"{image.ref}: {image.problem}")
        for pattern in patterns.unmatched():
            self.complain(f"no image {shown(pattern)} in {tree.storage.root}")
        flat = parsed_args.formatter in cells.FLAT
        return _COLUMNS, (_row(image, flat=flat) for image in images)


def _row(image: Image, *, flat: bool) -> tuple[Any, ...]:
    reference = image.ref.reference
    referrers = [digest.value for digest in image.referrers]
    platforms = [cells.line(platform) for platform in image.platforms]
    return (
        str(image.ref.repository),
        "" if isinstance(reference, Digest) else str(reference),
        cells.Short(str(image.digest or "")),
        image.kind,
        ",".join(platforms) if flat else cells.Words(platforms),
        cells.Size(image.size),
        cells.Size(image.own),
        cells.Size(image.shared),
        cells.Moment(image.written),
        ",".join(referrers) if flat else cells.Count(referrers),
    )
