# SPDX-License-Identifier: Apache-2.0
"""Retention: which tags of a repository stay when it is pruned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

from image_uploader_plugins import errors, files
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import graph
from image_uploader_plugins.local_export.reports.holdings import Holdings
from image_uploader_plugins.patterns import Pattern
from image_uploader_plugins.reference import ImageRef, Tag, attached_to


@dataclasses.dataclass(frozen=True)
class Retention:
    """The rules of what stays: listed images, patterns, and the newest tags of each repository."""

    listed: frozenset[ImageRef] = frozenset()
    patterns: tuple[Pattern, ...] = ()
    newest: int = 0

    def __bool__(self) -> bool:
        return bool(self.listed or self.patterns or self.newest)

    def kept(self, holdings: Holdings, digests: Mapping[Tag, Digest]) -> set[Tag]:
        """Return those tags of ``digests`` that stay, including what refers to them."""
        chosen = {tag for tag in digests if self._is_chosen(holdings, tag, digests[tag])}
        if self.newest:
            images = [tag for tag in digests if not _subject(holdings, tag, digests[tag])]
            chosen |= set(_newest_first(holdings, images)[: self.newest])
        while True:
            needed = graph.closure(holdings.edges, (digests[tag] for tag in chosen))
            more = {tag for tag in digests if _subject(holdings, tag, digests[tag]) in needed}
            if more <= chosen:
                return chosen
            chosen |= more

    def _is_chosen(self, holdings: Holdings, tag: Tag, digest: Digest) -> bool:
        return (
            ImageRef(holdings.name, tag) in self.listed
            or self._is_listed(holdings, digest)
            or any(pattern.fits(holdings.name, tag, digest) for pattern in self.patterns)
        )

    def _is_listed(self, holdings: Holdings, digest: Digest) -> bool:
        """Return whether a manifest or a child is listed: a child goes with its index."""
        if not self.listed:
            return False
        return any(ImageRef(holdings.name, d) in self.listed for d in holdings.needed(digest))


def read_list(path: Path) -> frozenset[ImageRef]:
    """Read a file with one image on each line; ``#`` begins a comment.

    Raises ConfigurationError, which names the line by its number.
    """
    found = set()
    for number, line in enumerate(files.text(path).splitlines(), 1):
        words = line.partition("#")[0].strip()
        try:
            found |= {ImageRef.parse(words)} if words else set()
        except errors.InvalidReference as e:
            raise errors.ConfigurationError(f"{path}, line {number}: {e}") from e
    return frozenset(found)


def _newest_first(holdings: Holdings, tags: Iterable[Tag]) -> list[Tag]:
    return sorted(tags, key=lambda tag: (-(holdings.changed(tag) or 0.0), tag))


def _subject(holdings: Holdings, tag: Tag, digest: Digest) -> Digest | None:
    """Return the manifest that a tag's manifest refers to, by its subject or by the tag's name.

    None where that is not in the repository: then the tag is treated like any
    other.
    """
    subject = holdings.manifests[digest].subject
    named = subject.digest if subject else attached_to(tag)
    return named if named in holdings.manifests else None
