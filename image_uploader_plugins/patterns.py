"""Patterns that choose images: ``*``, ``?`` and ``[...]``, as in a shell."""

from __future__ import annotations

import argparse
import fnmatch
import re

from image_uploader_plugins.reference import RepositoryName, Tag

HELP = (
    'as in a shell, of a repository ("openstack/*") or, with a colon, of a tag in one '
    '("*:wallaby"); * stands for slashes, too'
)


class Pattern:
    """What repositories and tags are matched with; raises ArgumentTypeError for an empty one."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.name, self._colon, self._tag = text.partition(":")
        if not self.name or (self._colon and not self._tag):
            raise argparse.ArgumentTypeError(f"not a pattern of images: {text!r}")
        self._name_matches = re.compile(fnmatch.translate(self.name)).match
        self._tag_matches = re.compile(fnmatch.translate(self._tag or "*")).match

    def fits_repository(self, name: RepositoryName) -> bool:
        """Whether images of this repository may be meant."""
        return self._name_matches(name.value) is not None

    def fits(self, name: RepositoryName, tag: Tag | None) -> bool:
        """Whether this tag is meant; what has none is where no tag is asked for."""
        if not self.fits_repository(name):
            return False
        return self._tag_matches(tag.value) is not None if tag else not self._colon
