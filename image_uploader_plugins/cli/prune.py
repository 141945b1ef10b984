"""``image-uploader prune``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.cli.cells import plural, some
from image_uploader_plugins.cli.command import Command
from image_uploader_plugins.copying import size
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.local_export import retention
from image_uploader_plugins.local_export.driver import LocalExportDriver
from image_uploader_plugins.local_export.patterns import Patterns
from image_uploader_plugins.local_export.pruning import Excess, Plan
from image_uploader_plugins.local_export.retention import Rule
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.text import shown

_HALF = 0.5


class Prune(Command):
    """Delete tags from the tree of local-export, but for those that are to be kept.

    A tag stays if a list, a pattern or its age keeps it. The age of a tag is
    that of its file in the tree: when it was put there or last moved, which a
    restored backup keeps and a repair may change. What kept images lead to
    stays, and what is about them: referrers, and tags such as
    sha256-DIGEST.sig, which do not count as newest. Manifests put without a
    tag stay, unless what they refer to goes.

    Refuses to delete more than a share of any repository's tags, and so of
    the tree's; then nothing is deleted, and the exit status is 1. An image
    that is put meanwhile stays.
    """

    examples = (
        "image-uploader prune --keep-newest 5 --dry-run",
        "image-uploader prune --keep-list in-use.txt --keep '*:latest' 'openstack/*'",
        "image-uploader prune --keep-newest 3 --max-share 0.9",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "patterns",
            nargs="*",
            metavar="REPOSITORY",
            help="look at these repositories alone, also with * and ? (default: all)",
        )
        parser.add_argument(
            "--keep-list",
            action="append",
            default=[],
            metavar="FILE",
            help="keep what a file names, - for standard input: on each line REPOSITORY, "
            "REPOSITORY:TAG or REPOSITORY@DIGEST, a HOST:PORT/ before it is ignored, and what "
            "follows #; may be given several times",
        )
        parser.add_argument(
            "--keep",
            action="append",
            default=[],
            metavar="PATTERN",
            help="keep what matches, as in a list, and with * and ?; may be given several times",
        )
        parser.add_argument(
            "--keep-newest",
            type=_count,
            default=0,
            metavar="N",
            help="keep the newest N tags of each repository",
        )
        parser.add_argument(
            "--max-share",
            type=_share,
            default=_HALF,
            metavar="SHARE",
            help="delete no more than this share of a repository's tags, from 0 to 1 "
            "(default: %(default)s)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="tell what would go; change nothing"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        if not (parsed_args.keep_list or parsed_args.keep or parsed_args.keep_newest):
            return self.misused("nothing to keep: give --keep-list, --keep or --keep-newest")
        listed = [text for name in parsed_args.keep_list for text in _read(name)]
        if not (listed or parsed_args.keep or parsed_args.keep_newest):
            raise errors.ConfigurationError(
                f"{parsed_args.keep_list[0]}: it names no image to keep"
            )
        rule = Rule(Patterns(listed), Patterns(parsed_args.keep), parsed_args.keep_newest)
        with contextlib.closing(Tree.existing(self.conf)) as tree:
            names = _repositories(tree, parsed_args.patterns)
            plan = Plan(tree, names, rule, parsed_args.max_share)
            for problem in plan.problems:
                self.complain(f"nothing is deleted beside it: {problem}")
            if parsed_args.dry_run:
                self._tell(plan, plan.preview(), "would go")
            self._warn(rule, whole=not parsed_args.patterns)
        if plan.excesses:
            self._refuse(plan.excesses, parsed_args.max_share)
        elif not parsed_args.dry_run:
            with LocalExportDriver.from_conf(self.conf) as driver:
                self._tell(plan, plan.carry_out(driver), "deleted")
        return 0

    def _tell(
        self, plan: Plan, deletions: Iterator[tuple[RepositoryName, Deletion]], what: str
    ) -> None:
        manifests = blobs = freed = 0
        for name, deletion in deletions:
            for reference in sorted(plan.stale[name], key=str):
                print(f"{ImageRef(name, reference)}: {what}", file=self.app.stdout)
            manifests += len(deletion.manifests)
            blobs += len(deletion.blobs)
            freed += deletion.bytes_freed
        tags = sum(isinstance(n, Tag) for names in plan.stale.values() for n in names)
        content = f"{plural(manifests, 'manifest')}, {plural(blobs, 'blob')}, {size(freed)} freed"
        print(f"{tags} of {plural(plan.tags, 'tag')} {what}: {content}", file=self.app.stdout)

    def _warn(self, rule: Rule, *, whole: bool) -> None:
        """What is kept for nothing may be a mistake in writing."""
        for pattern in rule.patterns.unmatched() + (rule.listed.unmatched() if whole else []):
            self.app.LOG.warning("no image %s to keep", shown(pattern))

    def _refuse(self, excesses: Sequence[Excess], max_share: float) -> None:
        described = some(list(map(str, excesses)))
        self.complain(
            f"refused, nothing is deleted: {described} would go, and --max-share allows "
            f"{max_share:.0%} of a repository's; --max-share 1 allows all"
        )


def _read(name: str) -> list[str]:
    """A list's images; raises ConfigurationError."""
    try:
        lines = sys.stdin.readlines() if name == "-" else Path(name).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise errors.ConfigurationError(f"cannot read {shown(name)}: {e}") from e
    return retention.parse_list(lines, name)


def _repositories(tree: Tree, texts: Sequence[str]) -> list[RepositoryName]:
    """Those that match; raises ImageUnknown for a pattern that is for none."""
    patterns = Patterns(texts)
    names = [name for name in tree.repositories() if not texts or patterns.match(str(name))]
    for text in patterns.unmatched():
        raise errors.ImageUnknown(f"no repository {shown(text)} in {tree.storage.root}")
    return names


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"not a count of tags to keep: {text}")
    return count


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"not between 0 and 1: {text}")
    return share
