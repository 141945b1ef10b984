# SPDX-License-Identifier: Apache-2.0
"""Patterns that choose images: ``*``, ``?`` and ``[...]``, as in a shell.

Upper and lower case differ; ``*`` stands for slashes, too.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import RepositoryName, Tag

HELP = (
    'as in a shell, of a repository ("openstack/*"), of a tag ("*:wallaby") or of a digest '
    '("base@sha256:0a*"); * stands for slashes, too'
)

_PARTS = re.compile(r"(?P<name>[^:@]+)(?:(?P<separator>[:@])(?P<reference>.+))?", re.DOTALL)


class Pattern:
    """``repository``, ``repository:tag`` or ``repository@digest``, each part a pattern.

    Raises InvalidReference for a part that is empty.
    """

    def __init__(self, text: str) -> None:
        parts = _PARTS.fullmatch(text)
        if not parts:
            raise errors.InvalidReference(f"not a pattern of images: {text!r}")
        self.text = text
        self.whole = parts["reference"] is None
        """Whether it means repositories as a whole."""
        self._kind = Digest if parts["separator"] == "@" else Tag
        self._fits_name = re.compile(fnmatch.translate(parts["name"])).match
        self._fits_reference = re.compile(fnmatch.translate(parts["reference"] or "*")).match

    def fits_repository(self, name: RepositoryName) -> bool:
        """Tell whether images of this repository may be meant."""
        return self._fits_name(name.value) is not None

    def fits(self, name: RepositoryName, *references: Tag | Digest | None) -> bool:
        """Tell whether all of a repository is meant, or one of these tags and digests in it."""
        return self.fits_repository(name) and (self.whole or any(map(self._means, references)))

    def _means(self, reference: Tag | Digest | None) -> bool:
        return isinstance(reference, self._kind) and bool(self._fits_reference(reference.value))


def matches(pattern: str, names: Iterable[str]) -> bool:
    """Tell whether one of an image's ``names``, in whatever grammar, fits as a whole."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)
