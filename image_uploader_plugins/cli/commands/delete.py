# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader delete``."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from image_uploader_plugins import loader
from image_uploader_plugins.cli import arguments
from image_uploader_plugins.cli.removal import Choose, Images, Removal
from image_uploader_plugins.driver import Deletion, UploaderDriver
from image_uploader_plugins.local_export.graph import Reference
from image_uploader_plugins.local_export.reports.holdings import exists
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import ImageRef, RepositoryName


class Delete(Removal):
    """Delete images from what the configured driver writes, or from the tree in --root.

    A tag goes, or with a digest a manifest and all tags that are for it; and
    then the content that nothing else needs. Uploads and pulls may go on
    meanwhile.

    In a tree of local-export, where one of the images is not there, none is
    deleted. Other drivers delete one image after the other, and have neither
    --all-tags nor --dry-run.
    """

    examples = (
        "image-uploader delete openstack/nova-api:wallaby",
        "image-uploader delete --dry-run base:1.0 base:1.1",
        "image-uploader delete --all-tags openstack/nova-api",
        f"image-uploader delete base@sha256:{'0123456789abcdef' * 4}",
    )

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "images",
            nargs="*",
            type=arguments.image,
            metavar="IMAGE",
            help="an image to delete: REPOSITORY:TAG or REPOSITORY@DIGEST",
        )
        parser.add_argument(
            "--all-tags",
            action="append",
            default=[],
            type=arguments.repository,
            metavar="REPOSITORY",
            help="delete all tags of this repository, may be given several times",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        if not parsed_args.images and not parsed_args.all_tags:
            self.misused("name an image, or a repository with --all-tags")
        if not self.has_tree(parsed_args):
            self._delete_by_contract(parsed_args)
            return
        with self.tree(parsed_args, look=parsed_args.dry_run) as tree:
            images = self._images(tree, parsed_args.images, parsed_args.all_tags)
            if images is not None:
                self.remove(tree, images, parsed_args)

    def _delete_by_contract(self, parsed_args: argparse.Namespace) -> None:
        for option in ("all_tags", "dry_run"):
            if getattr(parsed_args, option):
                raise self.no_tree(f"--{option.replace('_', '-')}")
        images = dict.fromkeys(parsed_args.images)
        with loader.load_driver(self.conf) as driver:
            found = ((i.repository, [i.reference]) for i in images)
            self.delete(_OneByOne(driver), found, form=parsed_args.format)

    def _images(
        self, tree: Tree, images: list[ImageRef], whole: list[RepositoryName]
    ) -> Images | None:
        """Return what is to go, each once; None, with a complaint, where something is not there."""
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


class _OneByOne:
    """Deletes by the one verb that every driver has."""

    def __init__(self, driver: UploaderDriver) -> None:
        self._driver = driver

    def delete_all(
        self,
        name: RepositoryName,
        wanted: Collection[Reference],
        narrow: Choose,
    ) -> Deletion:
        (reference,) = narrow(wanted)
        return self._driver.delete(ImageRef(name, reference))
