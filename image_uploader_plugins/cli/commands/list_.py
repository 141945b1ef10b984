# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader list``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

from image_uploader_plugins import errors
from image_uploader_plugins.cli import arguments, formats, progress
from image_uploader_plugins.cli.base import Lister
from image_uploader_plugins.cli.cells import Age, Count, Size, Words
from image_uploader_plugins.cli.local_tree import LocalTree
from image_uploader_plugins.local_export.reports.holdings import Image, images
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.patterns import HELP, Pattern
from image_uploader_plugins.reference import RepositoryName

_COLUMNS = (
    *("Repository", "Tag", "Digest", "Kind", "Platforms"),
    *("Size", "Own", "Shared", "Age", "Referrers", "Elsewhere"),
)
# As long as names are not, this fits into 80 columns.
_BRIEF = ("Repository", "Tag", "Size", "Age")
# For these nothing but tags and manifests is read.
_CHEAP = (*_BRIEF, "Digest", "Kind")
# Formats of one line an image, in which a list of words is one text.
_FLAT = ("csv", "value")
_SHORT = len("sha256:") + 12


class List(LocalTree, Lister):
    """List the images of a tree of local-export.

    One line for each tag, sorted; with --wide, with all columns. Kind is image,
    list (of several platforms), artifact, schema 1, or damaged. Size is all
    that a pull of all platforms gets; Own is what a delete would free; Shared
    is what other images hold as well. Age is the time since the tag was put, or
    moved to other content; putting the same again changes nothing. Referrers
    are signatures and the like that name the image as their subject. Elsewhere
    are the platforms of a list that were left out on purpose; Platforms are
    those that are here.

    The table is for people, and no name is broken: where names are long, so
    are its lines, unless --fit-width or --max-width says otherwise. json, yaml,
    csv and value have all columns, sizes in bytes, the age in seconds, and
    whole digests.
    """

    examples = (
        "image-uploader list",
        "image-uploader list 'openstack/*' '*:v1.*'",
        "image-uploader list --wide 'openstack/*'",
        "image-uploader list --root /srv/image-serve",
        "image-uploader list -f json",
        "image-uploader list -f value -c Repository -c Tag --sort-column Age",
        "image-uploader list --all prometheus/node-exporter",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "patterns",
            nargs="*",
            type=arguments.pattern,
            metavar="PATTERN",
            help=f"list what fits one of these (default: all): {HELP}",
        )
        parser.add_argument(
            "--wide", action="store_true", help="a table with all columns, wider than a terminal"
        )
        parser.add_argument(
            "--all",
            action="store_true",
            help="also manifests without a tag: those that lists consist of, referrers, and what "
            "was put by digest",
        )
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
        if parsed_args.formatter == "table" and not parsed_args.wide and not parsed_args.columns:
            parsed_args.columns = list(_BRIEF)
        if not parsed_args.fit_width:
            # Where names are long, lines are: as of podman images. cliff would break names.
            parsed_args.max_width = parsed_args.max_width or sys.maxsize
        needed = {formats.key(name) for name in (*parsed_args.columns, *parsed_args.sort_columns)}
        brief = bool(parsed_args.columns) and needed <= set(map(formats.key, _CHEAP))
        with progress.metered(self.app.stderr, self.meter, quiet=self.quiet):
            found = list(self._images(parsed_args, brief=brief))
        return _COLUMNS, (_row(image, parsed_args.formatter) for image in found)

    def _images(self, parsed_args: argparse.Namespace, *, brief: bool) -> Iterator[Image]:
        patterns: list[Pattern] = parsed_args.patterns
        unmet = dict.fromkeys(patterns)
        with self.tree(parsed_args, look=True) as tree:
            for name in self.meter.each("Read {} repositories", tree.repositories()):
                if patterns and not any(p.fits_repository(name) for p in patterns):
                    continue
                for image in self._held(tree, name, untagged=parsed_args.all, brief=brief):
                    fitting = [p for p in patterns if p.fits(image.name, image.tag, image.digest)]
                    for pattern in fitting:
                        unmet.pop(pattern, None)
                    if fitting or not patterns:
                        yield image
        for pattern in unmet:
            self.complain(f"no image fits {pattern.text!r}")

    def _held(
        self, tree: Tree, name: RepositoryName, *, untagged: bool, brief: bool
    ) -> Iterator[Image]:
        try:
            for image in images(tree, name, untagged=untagged, brief=brief):
                if image.problem:
                    self.complain(f"{image}: {image.problem}")
                yield image
        except errors.UploaderError as e:
            self.complain(f"{name}: {e}")


def _row(image: Image, formatter: str) -> tuple[Any, ...]:
    platforms = Words(image.platforms)
    referrers = Count([digest.value for digest in image.referrers])
    elsewhere = Count(Words(image.elsewhere).machine_readable())
    digest = image.digest.value if image.digest else ""
    return (
        image.name.value,
        image.tag.value if image.tag else "",
        digest[:_SHORT] if formatter == "table" else digest,
        image.kind,
        " ".join(platforms.machine_readable()) if formatter in _FLAT else platforms,
        Size(image.size),
        Size(image.own),
        Size(image.shared),
        Age(max(0, int(time.time() - image.changed))),
        " ".join(referrers.machine_readable()) if formatter in _FLAT else referrers,
        " ".join(elsewhere.machine_readable()) if formatter in _FLAT else elsewhere,
    )
