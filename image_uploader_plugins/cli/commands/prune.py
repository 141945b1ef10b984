# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader prune``."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from image_uploader_plugins import errors, loader
from image_uploader_plugins.cli import arguments, keep_lists, progress, reporting
from image_uploader_plugins.cli.keep_lists import Kept
from image_uploader_plugins.cli.removal import Choose, Images, Removal
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.lists import share
from image_uploader_plugins.local_export.graph import Inventory, Reference
from image_uploader_plugins.local_export.maintenance.retention import NewestBy, Retention, Stay
from image_uploader_plugins.local_export.reports.census import Counting
from image_uploader_plugins.local_export.reports.forecast import Forecast
from image_uploader_plugins.local_export.reports.holdings import Holdings, exists
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.patterns import HELP, Pattern
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.units import plural, size

_REPOSITORIES = 15  # that are shown, those that free most
_TAGS = 3  # of a repository that are shown


class _Pruned(NamedTuple):
    """What goes of a repository, or went."""

    name: RepositoryName
    references: Sequence[Reference]
    freed: int


class Prune(Removal):
    """Delete all tags of a tree of local-export but those that are to be kept.

    A tag stays when it is listed, fits a pattern, or is one of the newest of
    its repository. With an image stays what refers to it: signatures and the
    like, by their subject or by a tag like sha256-DIGEST.sig; these never
    count among the newest. Newest is what has the highest version: of each
    line of versions, as 1.27 and 1.27-alpine are two, and tags that are no
    versions stay. With --newest-by created it is what was built last, with
    --newest-by put what was put, or moved to other content, last. Manifests
    that were put by digest and have no tag stay, and so does all that is put
    meanwhile.

    A line for each repository says how many of its tags go; --all names all of
    them. A repository with a tag or a manifest that cannot be read is left as
    it is, and the exit status is 1.
    """

    examples = (
        "image-uploader prune --dry-run --keep-newest 3",
        "image-uploader prune --keep-list images.yaml --keep '*:stable' 'openstack/*'",
        "image-uploader prune --keep-list images.yaml --unlisted --dry-run",
        "image-uploader prune --keep-newest 1 --newest-by put --max-share 0.9 builds",
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
        _add_rules(parser)
        arguments.add_max_share(
            parser,
            "delete nothing where more than this share of a repository's tags, or of the tree's, "
            "would go",
        )
        parser.add_argument(
            "--all", action="store_true", help="name every tag, manifest and blob that goes"
        )
        reporting.add_metrics(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        if parsed_args.dry_run and parsed_args.metrics:
            self.misused("--metrics is for runs that delete, not for --dry-run")
        self._is_long = parsed_args.all
        is_version = parsed_args.newest_by is NewestBy.VERSION
        self._order = "a version" if is_version else "a date of creation"
        self._pruned: list[_Pruned] = []
        self._stays: dict[RepositoryName, Stay] = {}
        self._forecasts: dict[RepositoryName, Deletion | errors.UploaderError] = {}
        self._foreseen: dict[RepositoryName, dict[Tag, Digest]] = {}
        self._tags: dict[RepositoryName, int] = {}  # that a repository had when it was read
        with reporting.Upkeep(self, parsed_args).run() as upkeep:
            self._run(parsed_args, *self._rules(parsed_args), upkeep)

    def _rules(self, parsed_args: argparse.Namespace) -> tuple[Kept, Retention]:
        """Return what is listed as to be kept, and all rules together."""
        kept = keep_lists.read(parsed_args.keep_list, loader.selected(self.conf))
        retention = Retention(
            kept.references,
            kept.choices,
            tuple(parsed_args.keep),
            parsed_args.keep_newest,
            parsed_args.newest_by,
        )
        if not retention or (parsed_args.unlisted and not kept.names):
            self.misused(
                "nothing to keep: say what with --keep-list (of one image or more, as --unlisted "
                "needs it), --keep or --keep-newest"
            )
        return kept, retention

    def _run(
        self,
        parsed_args: argparse.Namespace,
        kept: Kept,
        retention: Retention,
        upkeep: reporting.Upkeep,
    ) -> None:
        with self.tree(parsed_args, look=parsed_args.dry_run) as tree:
            self._warn_of_absent(tree, kept)
            with progress.metered(self.app.stderr, self.meter, quiet=self.quiet):
                images = self._planned(tree, parsed_args, kept, retention)
            most = parsed_args.max_share
            allowed = self._is_allowed(tree, images, most, each=not parsed_args.unlisted)
            upkeep.bytes_freed = 0
            if parsed_args.dry_run or allowed:
                upkeep.bytes_freed = self._prune(tree, images, parsed_args, retention)
            upkeep.count(Counting(tree).census)

    def _planned(
        self, tree: Tree, parsed_args: argparse.Namespace, kept: Kept, retention: Retention
    ) -> Images:
        names = self._names(tree, parsed_args.repositories)
        if parsed_args.unlisted:
            names = [name for name in names if name not in kept.names]
        forecast = Forecast(tree) if parsed_args.dry_run else None
        for name in self.meter.each("Read {} repositories", names):
            going, inventory = self._going(tree, name, retention)
            self._foreseen[name] = going
            if forecast and going:
                self._forecasts[name] = _foreseen(forecast, name, sorted(going), inventory)
        return {name: sorted(going) for name, going in self._foreseen.items() if going}

    def _prune(
        self, tree: Tree, images: Images, parsed_args: argparse.Namespace, retention: Retention
    ) -> int:
        """Delete these images or tell what would go; return what that frees, in bytes."""

        def narrow(
            name: RepositoryName, references: Collection[Reference]
        ) -> Collection[Reference]:
            # Not what was put or moved since, or what that needs.
            (now, _), before = self._going(tree, name, retention), self._foreseen[name]
            still = {tag for tag in now if now[tag] == before.get(tag)}
            return [reference for reference in references if reference in still]

        if parsed_args.dry_run:
            return self.delete(self, images.items(), "would go", form=parsed_args.format)
        return self.remove(tree, images, parsed_args, narrow)

    def delete_all(
        self, name: RepositoryName, wanted: Collection[Reference], narrow: Choose, /
    ) -> Deletion:
        """Return what would go of a repository, as it was foreseen when that was read."""
        narrow(wanted)
        found = self._forecasts[name]
        if isinstance(found, errors.UploaderError):
            raise found
        return found

    def tell(
        self, name: RepositoryName, references: list[Reference], deletion: Deletion, outcome: str
    ) -> None:
        if self._is_long:
            super().tell(name, references, deletion, outcome)
        else:
            self._pruned.append(_Pruned(name, references, deletion.bytes_freed))

    def end(self, outcome: str) -> None:
        first = sorted(self._pruned, key=lambda pruned: (-pruned.freed, pruned.name))
        for pruned in sorted(first[:_REPOSITORIES], key=lambda pruned: pruned.name):
            print(self._line(pruned, outcome), file=self.app.stdout)
        rest = first[_REPOSITORIES:]
        if rest:
            tags = sum(len(pruned.references) for pruned in rest)
            freed = size(sum(pruned.freed for pruned in rest))
            print(
                f"... and {plural(tags, 'tag')} of {len(rest)} more repositories, {freed} "
                "(--all names them)",
                file=self.app.stdout,
            )
        unordered = sum(len(stay.unordered) for stay in self._stays.values())
        if unordered:
            what = f"{plural(unordered, 'tag')} without {self._order}"
            print(f"Kept as well: {what} (--newest-by)", file=self.app.stdout)

    def _line(self, pruned: _Pruned, outcome: str) -> str:
        tags = _some(sorted(map(str, pruned.references)))
        newest = self._stays[pruned.name].newest
        stay = f"; newest: {_some(list(map(str, newest)))}" if newest else ""
        count = plural(len(pruned.references), "tag")
        return f"{pruned.name}: {count} {outcome}, {size(pruned.freed)}: {tags}{stay}"

    def _names(self, tree: Tree, patterns: list[Pattern]) -> list[RepositoryName]:
        names = tree.repositories()
        for pattern in patterns:
            if not any(map(pattern.fits_repository, names)):
                raise errors.ConfigurationError(f"no repository fits {pattern.text!r}")
        return [
            name for name in names if not patterns or any(p.fits_repository(name) for p in patterns)
        ]

    def _warn_of_absent(self, tree: Tree, kept: Kept) -> None:
        # A misspelt name keeps nothing.
        for text, images in sorted(kept.images, key=lambda image: image[0]):
            if not any(exists(tree, image) for image in images):
                self.app.LOG.warning("to be kept, and not there: %s", text)

    def _going(
        self, tree: Tree, name: RepositoryName, retention: Retention
    ) -> tuple[dict[Tag, Digest], Inventory | None]:
        """Return the tags of a repository that are to go, and what each leads to.

        Also return the inventory that this is from, if one could be taken.
        """
        try:
            holdings = Holdings(tree, name)
            self._tags.setdefault(name, len(holdings.tags))
            digests = holdings.readable_tags()
            if doubts := holdings.doubts():
                raise errors.NeedUnknown(doubts)
            stay = retention.kept(holdings, digests)
        except errors.UploaderError as e:
            self.complain(f"{name} is left as it is: {e}")
            return {}, None
        self._stays[name] = stay
        going = {tag: digest for tag, digest in digests.items() if tag not in stay.tags}
        return going, holdings.inventory

    def _is_allowed(self, tree: Tree, images: Images, most: Fraction, *, each: bool) -> bool:
        """Return whether so many tags may go: of ``each`` repository, and of the tree."""
        going = total = 0
        allowed = True
        for name in tree.repositories():
            tags, gone = self._count(tree, name), len(images.get(name, ()))
            going, total = going + gone, total + tags
            allowed &= not each or self._is_little(gone, tags, str(name), most)
        return self._is_little(going, total, "the tree", most) and allowed

    def _count(self, tree: Tree, name: RepositoryName) -> int:
        """Return the number of a repository's tags."""
        known = self._tags.get(name)
        return len(tree.repository(name).tags()) if known is None else known

    def _is_little(self, gone: int, tags: int, where: str, most: Fraction) -> bool:
        problem = share.excess(gone, tags, where, most)
        if problem:
            self.complain(problem)
        return not problem


def _foreseen(
    forecast: Forecast,
    name: RepositoryName,
    going: Sequence[Reference],
    inventory: Inventory | None,
) -> Deletion | errors.UploaderError:
    """Return what would go of a repository, or the error that a deletion would raise."""
    try:
        return forecast.delete_all(name, going, known=inventory)
    except errors.UploaderError as e:
        return e


def _add_rules(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what stays."""
    parser.add_argument(
        "--keep-list",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="keep the images in this file: a name a line, maybe with a host and port; a list of "
        "upload or sync; or a report of a run",
    )
    parser.add_argument(
        "--unlisted",
        action="store_true",
        help="prune just the repositories that no --keep-list names, however many of their tags "
        "go; --max-share then counts those of the tree alone",
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
        "--newest-by",
        type=NewestBy,
        choices=list(NewestBy),
        default=NewestBy.VERSION,
        metavar="ORDER",
        help="what makes a tag newer: its version, when its image was created, or when it was "
        "put: version, created or put (default: version)",
    )


def _some(words: Sequence[str]) -> str:
    """Return the first of some words, and how many more there are."""
    more = len(words) - _TAGS
    return ", ".join(words[:_TAGS]) + (f" and {more} more" if more > 0 else "")
