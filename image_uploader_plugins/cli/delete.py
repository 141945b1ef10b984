"""``image-uploader delete``."""

from __future__ import annotations

import argparse
import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence

from image_uploader_plugins import errors
from image_uploader_plugins.cli.cells import plural
from image_uploader_plugins.cli.command import Command
from image_uploader_plugins.copying import size
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.local_export import description
from image_uploader_plugins.local_export.driver import LocalExportDriver
from image_uploader_plugins.local_export.removal import Preview
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag

_Targets = dict[RepositoryName, list[Tag | Digest]]


class Delete(Command):
    """Delete images from the tree of local-export, and what only they need.

    By tag, that tag goes; by digest, the manifest and all its tags. What
    another tag, a list or a subject still needs stays, as does what an upload
    in flight has put down. One line for each name, manifest and blob that
    goes, then the bytes that the disk gets back.

    All images are looked up first: where one is not there, nothing is deleted
    and the exit status is 1.
    """

    examples = (
        "image-uploader delete --dry-run openstack/nova-api:wallaby",
        "image-uploader delete openstack/nova-api:wallaby openstack/nova-api:xena",
        "image-uploader delete --all-tags openstack/nova-api",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "images", nargs="+", metavar="IMAGE", help="REPOSITORY:TAG or REPOSITORY@DIGEST"
        )
        parser.add_argument(
            "--all-tags",
            action="store_true",
            help="the arguments are repositories: delete all in them, with a tag or without",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="tell what would go; change nothing"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        with contextlib.closing(Tree.existing(self.conf)) as tree:
            find = _everything if parsed_args.all_tags else _images
            targets = find(tree, list(dict.fromkeys(parsed_args.images)))
            if parsed_args.dry_run:
                self._tell(targets, preview(tree, targets), "would go")
                return
        with LocalExportDriver.from_conf(self.conf) as driver:
            self._tell(targets, remove(driver, targets), "deleted")

    def _tell(self, targets: _Targets, deletions: Iterator[Deletion], what: str) -> None:
        count = freed = 0
        for (name, references), deletion in zip(targets.items(), deletions, strict=True):
            kept = {r for r in references if isinstance(r, Digest)}.difference(deletion.manifests)
            for reference in references:
                outcome = "stays, for others need it" if reference in kept else what
                print(f"{ImageRef(name, reference)}: {outcome}", file=self.app.stdout)
            for digest in deletion.manifests:
                print(f"{name}: manifest {digest}: {what}", file=self.app.stdout)
            for digest in deletion.blobs:
                print(f"{name}: blob {digest}: {what}", file=self.app.stdout)
            count += len(references) - len(kept)
            freed += deletion.bytes_freed
        print(f"{plural(count, 'image')} {what}, {size(freed)} freed", file=self.app.stdout)


def preview(
    tree: Tree, targets: Mapping[RepositoryName, Sequence[Tag | Digest]]
) -> Iterator[Deletion]:
    """What deleting these would take away, by repository."""
    rehearsal = Preview(tree)
    for name, references in targets.items():
        with tree.repository_lock(name):
            yield rehearsal.delete(tree.repository(name), references)


def remove(driver: LocalExportDriver, targets: _Targets) -> Iterator[Deletion]:
    """Delete these; what is told is no guess."""
    for name, references in targets.items():
        yield driver.delete_chosen(name, functools.partial(_choose, references))


def _choose(references: Sequence[Tag | Digest], _: Repository) -> Sequence[Tag | Digest]:
    return references


def _images(tree: Tree, texts: Sequence[str]) -> _Targets:
    """Raises InvalidReference or ImageUnknown for the first that is none."""
    targets: _Targets = {}
    for ref in dict.fromkeys(map(ImageRef.parse, texts)):
        with tree.repository_lock(ref.repository):
            if not description.exists(tree, ref):
                raise errors.ImageUnknown(f"no such image: {ref}")
        targets.setdefault(ref.repository, []).append(ref.reference)
    return targets


def _everything(tree: Tree, texts: Sequence[str]) -> _Targets:
    targets: _Targets = {}
    for text in texts:
        name = tree.known(RepositoryName(text))
        with tree.repository_lock(name):
            repository = tree.repository(name)
            targets[name] = [*sorted(repository.tags()), *sorted(repository.pins())]
    return targets
