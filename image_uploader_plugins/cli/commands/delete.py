"""``image-uploader delete``."""

from __future__ import annotations

import argparse
import contextlib

from image_uploader_plugins import errors
from image_uploader_plugins.cli.removal import Images, Removal
from image_uploader_plugins.local_export.graph import Reference
from image_uploader_plugins.local_export.reports.holdings import exists
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import ImageRef, RepositoryName


class Delete(Removal):
    """Delete images from the tree.

    A tag goes, or with a digest a manifest and all tags that are for it; and
    then the content that nothing else needs. Where one of the images is not
    there, none is deleted. Uploads and pulls may go on meanwhile.
    """

    examples = (
        "image-uploader delete openstack/nova-api:wallaby",
        "image-uploader delete --dry-run base:1.0 base:1.1",
        "image-uploader delete --all-tags openstack/nova-api",
        f"image-uploader delete base@sha256:{'0123456789abcdef' * 4}",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "images",
            nargs="*",
            type=image,
            metavar="IMAGE",
            help="an image to delete: REPOSITORY:TAG or REPOSITORY@DIGEST",
        )
        parser.add_argument(
            "--all-tags",
            action="append",
            default=[],
            type=_repository,
            metavar="REPOSITORY",
            help="delete all tags of this repository, may be given several times",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="tell what would go; change nothing"
        )
        self._parser = parser
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        if not parsed_args.images and not parsed_args.all_tags:
            self._parser.error("name an image, or a repository with --all-tags")
        with contextlib.closing(Tree.existing(self.conf)) as tree:
            images = self._images(tree, parsed_args.images, parsed_args.all_tags)
            if images is not None:
                self.remove(tree, images, rehearsing=parsed_args.dry_run)

    def _images(
        self, tree: Tree, images: list[ImageRef], whole: list[RepositoryName]
    ) -> Images | None:
        """What is to go, each once; None where something is not there."""
        found: dict[RepositoryName, dict[Reference, None]] = {}
        for wanted in images:
            if not exists(tree, wanted):
                self.complain(f"no such image: {wanted}")
            found.setdefault(wanted.repository, {})[wanted.reference] = None
        for name in whole:
            tags = sorted(tree.repository(name).tags())
            if not tags:
                self.complain(f"no tags in repository {name}")
            found.setdefault(name, {}).update(dict.fromkeys(tags))
        if self._status:
            return None
        return {name: list(found[name]) for name in sorted(found)}


def image(text: str) -> ImageRef:
    """For argparse: an image on the command line."""
    try:
        return ImageRef.parse(text)
    except errors.InvalidReference as e:
        raise argparse.ArgumentTypeError(str(e)) from e


def _repository(text: str) -> RepositoryName:
    try:
        return RepositoryName(text)
    except errors.InvalidReference as e:
        raise argparse.ArgumentTypeError(str(e)) from e
