# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader prune``."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.cli import arguments
from image_uploader_plugins.cli.removal import Images, Removal
from image_uploader_plugins.lists import share
from image_uploader_plugins.local_export.graph import Reference
from image_uploader_plugins.local_export.maintenance.retention import Retention, read_list
from image_uploader_plugins.local_export.reports.holdings import Holdings, exists
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.patterns import HELP, Pattern
from image_uploader_plugins.reference import ImageRef, RepositoryName


class Prune(Removal):
    """Delete all tags of a tree of local-export but those that are to be kept.

    A tag stays when it is listed, fits a pattern, or is one of the newest of
    its repository. With an image stays what refers to it: signatures and the
    like, by their subject or by a tag like sha256-DIGEST.sig; these never
    count among the newest. The age of a tag is the modification time of its
    file: when the tag was put, or moved to other content. Manifests that were
    put by digest and have no tag stay, and so does all that is put meanwhile.

    A repository with a tag or a manifest that cannot be read is left as it is,
    and the exit status is 1.
    """

    examples = (
        "image-uploader prune --dry-run --keep-newest 3",
        "image-uploader prune --keep-list deployed.txt --keep '*:stable' 'openstack/*'",
        "image-uploader prune --keep-newest 1 --max-share 0.9 builds",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "repositories",
            nargs="*",
            type=arguments.repositories,
            metavar="PATTERN",
            help="prune the repositories that fit one of these alone (default: all)",
        )
        parser.add_argument(
            "--keep-list",
            action="append",
            default=[],
            type=Path,
            metavar="FILE",
            help="keep the images in this file: one a line, REPOSITORY:TAG or REPOSITORY@DIGEST, "
            "maybe with a host and port before it; # begins a comment",
        )
        parser.add_argument(
            "--keep",
            action="append",
            default=[],
            type=arguments.pattern,
            metavar="PATTERN",
            help=f"keep what fits, may be given several times: {HELP}",
        )
        parser.add_argument(
            "--keep-newest",
            type=arguments.count,
            default=0,
            metavar="N",
            help="keep the N newest tags of each repository",
        )
        parser.add_argument(
            "--max-share",
            type=arguments.share,
            default=share.DEFAULT,
            metavar="SHARE",
            help="delete nothing where more than this share of a repository's tags, or of the "
            "tree's, would go: from 0 to 1, which is all (default: %(default)s)",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        listed = frozenset[ImageRef]().union(*map(read_list, parsed_args.keep_list))
        retention = Retention(listed, tuple(parsed_args.keep), parsed_args.keep_newest)
        if not retention:
            self._parser.error(
                "nothing to keep: say what with --keep-list (of one image or more), --keep or "
                "--keep-newest"
            )
        with self.tree(parsed_args, look=parsed_args.dry_run) as tree:
            names = self._names(tree, parsed_args.repositories)
            self._warn_of_absent(tree, retention)
            found = {name: self._going(tree, name, retention) for name in names}
            images = {name: going for name, going in found.items() if going}

            def narrow(
                name: RepositoryName, references: Collection[Reference]
            ) -> Collection[Reference]:
                # Not what was put since, or what that needs.
                still = set(self._going(tree, name, retention))
                return [reference for reference in references if reference in still]

            allowed = self._is_allowed(tree, images, parsed_args.max_share)
            if parsed_args.dry_run:
                self.remove(tree, images, parsed_args)
            elif allowed:
                self.remove(tree, images, parsed_args, narrow)

    def _names(self, tree: Tree, patterns: list[Pattern]) -> list[RepositoryName]:
        names = tree.repositories()
        for pattern in patterns:
            if not any(map(pattern.fits_repository, names)):
                raise errors.ConfigurationError(f"no repository fits {pattern.text!r}")
        return [
            name for name in names if not patterns or any(p.fits_repository(name) for p in patterns)
        ]

    def _warn_of_absent(self, tree: Tree, retention: Retention) -> None:
        # A misspelt name keeps nothing.
        for image in sorted(retention.listed, key=str):
            if not exists(tree, image):
                self.app.LOG.warning("to be kept, and not there: %s", image)

    def _going(self, tree: Tree, name: RepositoryName, retention: Retention) -> list[Reference]:
        try:
            holdings = Holdings(tree, name)
            digests = holdings.readable_tags()
            if doubts := holdings.doubts():
                raise errors.NeedUnknown(doubts)
            kept = retention.kept(holdings, digests)
        except errors.UploaderError as e:
            self.complain(f"{name} is left as it is: {e}")
            return []
        return sorted(digests.keys() - kept)

    def _is_allowed(self, tree: Tree, images: Images, most: Fraction) -> bool:
        going = total = 0
        allowed = True
        for name in tree.repositories():
            tags, gone = len(tree.repository(name).tags()), len(images.get(name, ()))
            going, total = going + gone, total + tags
            allowed &= self._is_little(gone, tags, str(name), most)
        return self._is_little(going, total, "the tree", most) and allowed

    def _is_little(self, gone: int, tags: int, where: str, most: Fraction) -> bool:
        problem = share.excess(gone, tags, where, most)
        if problem:
            self.complain(problem)
        return not problem
