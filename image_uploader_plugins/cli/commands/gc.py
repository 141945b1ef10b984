# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader gc``."""

from __future__ import annotations

import argparse
from typing import Any

from image_uploader_plugins.cli import formats, progress, reporting
from image_uploader_plugins.cli.base import Command
from image_uploader_plugins.cli.local_tree import LocalTree
from image_uploader_plugins.local_export.maintenance.adopt import adopt, strangers
from image_uploader_plugins.local_export.maintenance.collect import Collector, Garbage
from image_uploader_plugins.local_export.reports.census import Counting
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.units import size


class Gc(LocalTree, Command):
    """Remove what nobody needs from a tree of local-export.

    That is: manifests that no tag, index or subject leads to, blobs that no
    manifest needs, files of the pool that no repository has, leases that ran
    out, temporary files of processes that have ended, and the beginnings of
    layers that were kept too long after a fetch broke off.  Uploads may go on
    meanwhile.  Where a manifest cannot be read, nothing is removed from its
    repository, and the exit status is 1.
    """

    examples = ("image-uploader gc --dry-run", "image-uploader gc", "image-uploader gc --adopt")

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "--dry-run", action="store_true", help="tell what would go and why; change nothing"
        )
        parser.add_argument(
            "--adopt",
            action="store_true",
            help="bring blobs that other tools wrote into the pool, each verified on the way "
            "in; of several copies on the disk one stays",
        )
        formats.add_option(parser, "-f")
        reporting.add_metrics(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.dry_run and parsed_args.metrics:
            self.misused("--metrics is for runs that remove, not for --dry-run")
        with reporting.Upkeep(self, parsed_args).run() as upkeep:
            status = self._run(parsed_args, upkeep)
            upkeep.is_well = not status
        return status

    def _run(self, parsed_args: argparse.Namespace, upkeep: reporting.Upkeep) -> int:
        self._is_text = parsed_args.format == formats.TEXT
        self._result: dict[str, Any] = {"dry_run": parsed_args.dry_run}
        with self.tree(parsed_args, look=parsed_args.dry_run) as tree:
            status = self._collect(tree, dry_run=parsed_args.dry_run)
            if parsed_args.adopt and parsed_args.dry_run:
                self._result["adopted"] = count = sum(1 for _ in strangers(tree))
                self._say(f"{count} blobs would be adopted")
            elif parsed_args.adopt:
                status |= self._adopt(tree)
            upkeep.count(Counting(tree).census)
        upkeep.bytes_freed = self._result["bytes_freed"]
        if not self._is_text:
            self.app.stdout.write(formats.written(self._result, parsed_args.format))
        return status

    def _say(self, line: str) -> None:
        if self._is_text:
            print(line, file=self.app.stdout)

    def _collect(self, tree: Tree, *, dry_run: bool) -> int:
        collector = Collector(tree, dry_run=dry_run, meter=self.meter)
        found: list[Garbage] = []
        try:
            with progress.metered(self.app.stderr, self.meter, quiet=self.quiet):
                found.extend(collector.collect())
        finally:  # also of a collection that is interrupted
            for garbage in found:
                self._say(f"{garbage.path}: {garbage.reason}, {size(garbage.size)}")
        for problem in collector.problems:
            self.app.LOG.error("nothing is removed beside it: %s", problem)
        what = "would go" if dry_run else "removed"
        freed = sum(garbage.size for garbage in found)
        self._say(f"{len(found)} {what}, {size(freed)} freed")
        self._result["garbage"] = [_fields(garbage) for garbage in found]
        self._result["bytes_freed"] = freed
        self._result["problems"] = list(map(str, collector.problems))
        return 1 if collector.problems else 0

    def _adopt(self, tree: Tree) -> int:
        count = freed = damaged = 0
        for adoption in adopt(tree):
            count += adoption.intact
            freed += adoption.bytes_freed
            if not adoption.intact:
                damaged += 1
                self.app.LOG.error("%s: damaged, left as it is", adoption.path)
        self._say(f"{count} blobs adopted, {size(freed)} freed")
        self._result["adopted"] = count
        self._result["bytes_freed"] += freed
        return 1 if damaged else 0


def _fields(garbage: Garbage) -> dict[str, Any]:
    return {"path": str(garbage.path), "reason": garbage.reason, "size": garbage.size}
