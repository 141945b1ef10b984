# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader verify``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from image_uploader_plugins.cli import progress
from image_uploader_plugins.cli.base import Command
from image_uploader_plugins.cli.local_tree import LocalTree
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Finding, Remedy, Report, Verification, repair
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.units import size

_WORDS = {
    Remedy.REPAIR: "verify --repair mends it",
    Remedy.FETCH: "must be fetched again",
    Remedy.LOOK: "left alone",
}


class Verify(LocalTree, Command):
    """Say whether a tree of local-export is complete and intact.

    Reads every blob and manifest and compares it with its name, then every
    reference, list, header file, mode and link.  One line for each thing that
    is wrong: where, what, which images, and what helps.  The exit status is 1
    when something is wrong and, with --repair, when something still is.  Notes
    tell what is left out of an image on purpose, and is nothing wrong.
    """

    examples = (
        "image-uploader verify",
        "image-uploader verify --repair",
        "image-uploader verify --json prometheus/node-exporter",
        "image-uploader verify --root /srv/backup/image-serve",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "repositories",
            nargs="*",
            metavar="REPOSITORY",
            help="look at these alone (default: the whole tree, and its pool)",
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="mend what can be mended from the tree itself, remove what nobody needs and "
            "what is damaged beyond that, and tell what must be fetched again",
        )
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        with (
            self.tree(parsed_args) as tree,
            progress.metered(self.app.stderr, "Read", self.meter, quiet=self.quiet),
        ):
            names = _names(tree, parsed_args.repositories)
            verification = Verification(tree, names, self.meter)
            report = verification.report()
            mended: tuple[Finding, ...] = ()
            if parsed_args.repair and report.findings:
                before = report.findings
                report = repair(verification, report)
                left = set(report.findings)
                mended = tuple(finding for finding in before if finding not in left)
        tell = self._tell_json if parsed_args.json else self._tell
        tell(report, mended)
        return 1 if report.findings else 0

    def _tell(self, report: Report, mended: tuple[Finding, ...]) -> None:
        for finding in mended:
            outcome = "removed" if finding.remedy is Remedy.FETCH else "mended"
            print(f"{finding}: {outcome}", file=self.app.stdout)
        for finding in report.findings:
            print(f"{finding}: {_WORDS[finding.remedy]}", file=self.app.stdout)
        for note in report.notes:
            print(f"Note: {note}", file=self.app.stdout)
        outcome = f"{len(report.findings)} findings" if report.findings else "All is well"
        mending = f", {len(mended)} mended" if mended else ""
        print(
            f"{outcome}{mending}: {report.repositories} repositories, {report.manifests} "
            f"manifests, {report.blobs} blobs, {size(report.bytes_read)} read",
            file=self.app.stdout,
        )
        for image in report.to_fetch():
            print(f"Fetch again, with image-uploader upload: {image}", file=self.app.stdout)

    def _tell_json(self, report: Report, mended: tuple[Finding, ...]) -> None:
        result = {
            "ok": not report.findings,
            "findings": list(map(_fields, report.findings)),
            "mended": list(map(_fields, mended)),
            "notes": [
                {"path": str(note.path), "text": note.text, "images": note.images}
                for note in report.notes
            ],
            "fetch": report.to_fetch(),
            "repositories": report.repositories,
            "manifests": report.manifests,
            "blobs": report.blobs,
            "bytes_read": report.bytes_read,
        }
        print(json.dumps(result, indent=2), file=self.app.stdout)


def _names(tree: Tree, texts: list[str]) -> list[RepositoryName] | None:
    return [tree.known(RepositoryName(text)) for text in texts] or None


def _fields(finding: Finding) -> dict[str, Any]:
    fields = dataclasses.asdict(finding)
    return {**fields, "path": str(finding.path), "remedy": finding.remedy.value}
