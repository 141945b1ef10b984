# SPDX-License-Identifier: Apache-2.0
"""Commands that need a tree of local-export, whatever driver is configured."""

from __future__ import annotations

import argparse
import contextlib
import os

from oslo_config import cfg

from image_uploader_plugins import errors, loader, option_values
from image_uploader_plugins.cli import arguments
from image_uploader_plugins.cli.base import ROOT_VARIABLE, Base
from image_uploader_plugins.local_export import options
from image_uploader_plugins.local_export.tree import Tree


class LocalTree(Base):
    """A subcommand that works on a tree: the configured one, or that of ``--root``."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--root",
            type=arguments.absolute_path,
            metavar="DIR",
            default=os.environ.get(ROOT_VARIABLE) or None,
            help="the directory that holds the tree of local-export (default: "
            f"{ROOT_VARIABLE} of the environment or else, where local-export is the driver, "
            "[local_export] root)",
        )
        return parser

    def has_tree(self, parsed_args: argparse.Namespace) -> bool:
        """Tell whether a tree is named, or is what the configured driver writes."""
        return bool(parsed_args.root) or loader.selected(self.conf) == options.DRIVER

    def tree_conf(self, parsed_args: argparse.Namespace) -> cfg.ConfigOpts:
        """Return the options, ``[local_export] root`` being the tree's directory.

        Raises ConfigurationError where another driver is configured and no
        tree is named.
        """
        if not self.has_tree(parsed_args):
            raise self.no_tree(str(self.cmd_name))
        conf = self.conf
        if parsed_args.root:
            options.choose_root(conf, str(parsed_args.root))
        return conf

    def no_tree(self, what: str) -> errors.ConfigurationError:
        """Return an error that says that ``what`` works on trees alone."""
        return errors.ConfigurationError(
            f"{what} needs a tree of {options.DRIVER}, and the driver is "
            f"{loader.selected(self.conf)!r} ([image_uploader] driver): name a tree with --root DIR"
        )

    def tree(
        self, parsed_args: argparse.Namespace, *, look: bool = False
    ) -> contextlib.AbstractContextManager[Tree, None]:
        """Return the tree, which is there and is closed in the end; raises ConfigurationError.

        A tree to ``look`` at needs no rights but to read what web servers
        read; what is not known without more rights is said.
        """
        tree = self._existing(parsed_args, look=look)
        if tree.storage.is_hidden:
            self.app.LOG.warning(
                "%s is closed to this user: uploads in flight are not known, sizes that would be "
                "freed are estimates, and nothing prevents deletions meanwhile",
                tree.state,
            )
        return contextlib.closing(tree)

    def leasing_tree(
        self, parsed_args: argparse.Namespace
    ) -> contextlib.AbstractContextManager[Tree, None]:
        """Return the tree, to be read under leases or, without the rights for them, to look at."""
        seen = self._existing(parsed_args, look=True)
        can_write = os.access(seen.state, os.W_OK | os.X_OK, effective_ids=True)
        if os.access(seen.state, os.R_OK, effective_ids=True) and not can_write:
            self.app.LOG.warning(
                "%s is read-only: nothing prevents deletions meanwhile", seen.state
            )
        return self.tree(parsed_args, look=not can_write)

    def _existing(self, parsed_args: argparse.Namespace, *, look: bool) -> Tree:
        conf = self.tree_conf(parsed_args)
        where = option_values.origin(conf, options.GROUP, "root")
        if parsed_args.root:
            where = f"--root or {ROOT_VARIABLE}" if os.environ.get(ROOT_VARIABLE) else "--root"
        return Tree.existing(conf, where, look=look)
