# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader verify``."""

from __future__ import annotations

import argparse
import collections
import os
from collections.abc import Iterator, Sequence
from typing import Any

from image_uploader_plugins.cli import arguments, formats, progress, reporting
from image_uploader_plugins.cli.base import Command
from image_uploader_plugins.cli.local_tree import LocalTree
from image_uploader_plugins.local_export.reports.census import Counting
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import (
    Finding,
    Kind,
    Remedy,
    Report,
    Severity,
    Verification,
    repair,
)
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.units import plural, size

_SHOWN = 10  # findings of one kind
_PROCESSES = 4  # at most, since each needs memory
_WORDS = {
    Remedy.REPAIR: "verify --repair mends it",
    Remedy.FETCH: "must be fetched again",
    Remedy.LOOK: "left alone",
}
# For what no person is needed: what it is, how one is called, and what ends it.
_SUMMARIES = {
    Kind.UNNEEDED: ("{} that nothing needs", "thing", "removed by gc"),
    Kind.UNFINISHED: ("{} cut short", "operation", "put right by the next one there"),
    Kind.TEMPORARY: ("{} left behind", "temporary file", "removed by verify --repair"),
    Kind.UNPOOLED: ("{} that the pool does not share", "blob", "shared after gc --adopt"),
    Kind.LINKED: ("{} with a link outside the tree, as export makes them", "blob", "left alone"),
    Kind.STATE: ("{} in .local-export that no tree has", "name", "left alone"),
}


class Verify(LocalTree, Command):
    """Say whether a tree of local-export is complete and intact.

    Reads every blob and manifest and compares it with its name, then every
    reference, list, header file, mode and link.  One line for each thing that
    is wrong: where, what, which images, and what helps.  Things for which no
    person is needed are counted: garbage, links that an export made.  The exit
    status is 1 when something is wrong and, with --repair, when something still
    is.  Notes tell what is left out of an image on purpose, and is nothing
    wrong.
    """

    examples = (
        "image-uploader verify",
        "image-uploader verify --all",
        "image-uploader verify --repair",
        "image-uploader verify --json prometheus/node-exporter",
        "image-uploader verify --root /srv/backup/image-serve",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "repositories",
            nargs="*",
            type=arguments.repository,
            metavar="REPOSITORY",
            help="look at these alone (default: the whole tree, and its pool)",
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="mend what can be mended from the tree itself, remove what nobody needs and "
            "what is damaged beyond that, and tell what must be fetched again",
        )
        parser.add_argument(
            "--all",
            action="store_true",
            help="a line for each finding, also for what is only counted otherwise",
        )
        parser.add_argument(
            "--strict",
            action="store_true",
            help="exit with status 1 for garbage and links outside the tree, too; implies --all",
        )
        formats.add_option(parser, "-f")
        parser.add_argument(
            "--json",
            action="store_const",
            dest="format",
            const=formats.JSON,
            help="as --format json",
        )
        reporting.add_metrics(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.repositories and parsed_args.metrics:
            self.misused("--metrics tells of the whole tree, not of some repositories")
        with reporting.Upkeep(self, parsed_args).run() as upkeep:
            upkeep.is_well = self._run(parsed_args, upkeep)
        return 0 if upkeep.is_well else 1

    def _run(self, parsed_args: argparse.Namespace, upkeep: reporting.Upkeep) -> bool:
        with (
            self.tree(parsed_args, look=not parsed_args.repair) as tree,
            progress.metered(self.app.stderr, self.meter, quiet=self.quiet),
        ):
            names = _names(tree, parsed_args.repositories)
            verification = Verification(tree, names, self.meter, _processes())
            report = verification.report()
            mended: tuple[Finding, ...] = ()
            if parsed_args.repair and report.findings:
                before = report.findings
                report = repair(verification, report)
                left = set(report.findings)
                mended = tuple(finding for finding in before if finding not in left)
            upkeep.count(Counting(tree).census)
        found = collections.Counter(finding.severity for finding in report.findings)
        upkeep.findings = {severity.value: found[severity] for severity in Severity}
        wrong = report.findings if parsed_args.strict else report.damage()
        if parsed_args.format != formats.TEXT:
            result = _result(report, mended, ok=not wrong)
            self.app.stdout.write(formats.written(result, parsed_args.format))
        else:
            most = None if parsed_args.all or parsed_args.strict else _SHOWN
            self._tell(report, mended, len(wrong), most)
        return not wrong

    def _tell(
        self, report: Report, mended: tuple[Finding, ...], wrong: int, most: int | None
    ) -> None:
        lines = [
            *(f"{finding}: {_outcome(finding)}" for finding in mended),
            *_found(report.findings, most),
            *_shown([f"Note: {note}" for note in report.notes], most),
        ]
        outcome = plural(wrong, "finding") if wrong else "All is well"
        mending = f", {len(mended)} mended" if mended else ""
        lines.append(
            f"{outcome}{mending}: {report.repositories} repositories, {report.manifests} "
            f"manifests, {report.blobs} blobs, {size(report.bytes_read)} read"
        )
        lines += [f"Fetch again, with image-uploader upload: {i}" for i in report.to_fetch()]
        print("\n".join(lines), file=self.app.stdout)


def _processes() -> int:
    return min(len(os.sched_getaffinity(0)), _PROCESSES)


def _names(tree: Tree, names: list[RepositoryName]) -> list[RepositoryName] | None:
    return list(map(tree.known, names)) or None


def _outcome(mended: Finding) -> str:
    return "removed" if mended.remedy is Remedy.FETCH else "mended"


def _found(findings: Sequence[Finding], most: int | None) -> Iterator[str]:
    """Yield lines about findings, those of one kind together; all of them, where ``most`` is None.

    Otherwise at most so many of a kind, and those for which no person is needed
    in one line.
    """
    by_kind: dict[Kind, list[Finding]] = collections.defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding)
    for kind in Kind:
        found = by_kind[kind]
        if most is None or kind.severity is Severity.DAMAGE:
            yield from _shown([f"{f}: {_WORDS[f.remedy]}" for f in found], most)
    for kind, words in _SUMMARIES.items() if most is not None else ():
        if by_kind[kind]:
            yield _summary(by_kind[kind], *words)


def _shown(lines: Sequence[str], most: int | None) -> Iterator[str]:
    """Yield these lines or, where there are too many, the first, and how many more there are."""
    if most is None or len(lines) <= most + 1:
        yield from lines
    else:
        yield from lines[:most]
        yield f"... and {len(lines) - most} more of these (--all lists them)"


def _summary(found: Sequence[Finding], words: str, noun: str, end: str) -> str:
    freed = sum(finding.bytes_freed for finding in found)
    much = f", {size(freed)}" if freed else ""
    return f"{words.format(plural(len(found), noun))}{much}: {end} (--all lists them)"


def _fields(finding: Finding) -> dict[str, Any]:
    return {
        "path": str(finding.path),
        "problem": finding.problem,
        "severity": finding.severity.value,
        "kind": finding.kind.word,
        "remedy": finding.remedy.value,
        "images": finding.images,
    }


def _result(report: Report, mended: tuple[Finding, ...], *, ok: bool) -> dict[str, Any]:
    return {
        "ok": ok,
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
