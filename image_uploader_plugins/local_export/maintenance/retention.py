# SPDX-License-Identifier: Apache-2.0
"""Retention: which tags of a repository stay when it is pruned."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from image_uploader_plugins import versions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import graph
from image_uploader_plugins.local_export.reports.holdings import Holdings
from image_uploader_plugins.patterns import Pattern
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag, attached_to

Choose = Callable[[Collection[str]], Collection[Tag]]

_CREATED = "org.opencontainers.image.created"


class NewestBy(enum.Enum):
    """The ways in which one tag is newer than another."""

    VERSION = "version"
    CREATED = "created"
    PUT = "put"


class Stay(NamedTuple):
    """The tags of a repository that stay.

    ``newest`` are those that stay since they are among the newest, the newest
    first; ``unordered`` those that stay since nothing says how new they are.
    """

    tags: frozenset[Tag] = frozenset()
    newest: tuple[Tag, ...] = ()
    unordered: tuple[Tag, ...] = ()


class Retention(NamedTuple):
    """The rules of what stays: listed images, patterns, and the newest tags of each repository.

    ``choices`` choose from the tags that a repository has.
    """

    listed: frozenset[ImageRef] = frozenset()
    choices: tuple[tuple[RepositoryName, Choose], ...] = ()
    patterns: tuple[Pattern, ...] = ()
    newest: int = 0
    newest_by: NewestBy = NewestBy.VERSION

    def __bool__(self) -> bool:
        return bool(self.listed or self.choices or self.patterns or self.newest)

    def kept(self, holdings: Holdings, digests: Mapping[Tag, Digest]) -> Stay:
        """Return those tags of ``digests`` that stay, including what refers to them."""
        chosen = {tag for tag in digests if self._is_chosen(holdings, tag, digests[tag])}
        chosen |= self._choice(holdings, digests)
        found = Stay()
        if self.newest:
            images = [tag for tag in digests if not _subject(holdings, tag, digests[tag])]
            found = self._newest(holdings, images)
            chosen |= found.tags
        while True:
            needed = graph.closure(holdings.edges, (digests[tag] for tag in chosen))
            more = {tag for tag in digests if _subject(holdings, tag, digests[tag]) in needed}
            if more <= chosen:
                return found._replace(tags=frozenset(chosen))
            chosen |= more

    def _is_chosen(self, holdings: Holdings, tag: Tag, digest: Digest) -> bool:
        return (
            ImageRef(holdings.name, tag) in self.listed
            or self._is_listed(holdings, digest)
            or any(pattern.fits(holdings.name, tag, digest) for pattern in self.patterns)
        )

    def _choice(self, holdings: Holdings, digests: Mapping[Tag, Digest]) -> set[Tag]:
        texts = [tag.value for tag in digests]
        choices = (choose for name, choose in self.choices if name == holdings.name)
        return {tag for choose in choices for tag in choose(texts)} & digests.keys()

    def _is_listed(self, holdings: Holdings, digest: Digest) -> bool:
        """Return whether a manifest or a child is listed: a child goes with its index."""
        if not self.listed:
            return False
        return any(ImageRef(holdings.name, d) in self.listed for d in holdings.needed(digest))

    def _newest(self, holdings: Holdings, tags: Iterable[Tag]) -> Stay:
        if self.newest_by is NewestBy.VERSION:
            return _newest_versions(tags, self.newest)
        if self.newest_by is NewestBy.PUT:
            moments = {tag: holdings.changed(tag) for tag in tags}
        else:
            moments = {tag: _created(holdings, tag) for tag in tags}
        return _newest_moments(moments, self.newest)


def _newest_versions(tags: Iterable[Tag], count: int) -> Stay:
    """Return the newest versions of each line; tags that are no versions stay."""
    found = {tag: versions.version(tag.value) for tag in tags}
    texts = versions.newest([tag.value for tag in found], count)
    newest = {tag: version for tag, version in found.items() if version and tag.value in texts}
    others = sorted(tag for tag, version in found.items() if version is None)
    by_version = sorted(newest, key=lambda tag: (newest[tag], tag), reverse=True)
    return Stay(frozenset([*newest, *others]), tuple(by_version), tuple(others))


def _newest_moments(moments: Mapping[Tag, float | None], count: int) -> Stay:
    """Return the newest by moment; tags whose moment is not known stay."""
    known = {tag: moment for tag, moment in moments.items() if moment is not None}
    newest = sorted(known, key=lambda tag: (-known[tag], tag))[:count]
    others = sorted(moments.keys() - known.keys())
    return Stay(frozenset([*newest, *others]), tuple(newest), tuple(others))


def _created(holdings: Holdings, tag: Tag) -> float | None:
    """Return when an image was built, in seconds since the epoch; None where nothing says so.

    A list of images is as new as the newest of them (OCI image-spec 1.1,
    config.md and annotations.md).
    """
    found = []
    for digest in holdings.needed(holdings.inventory.tagged[tag]) & holdings.manifests.keys():
        manifest = holdings.manifests[digest]
        for text in (
            holdings.config(manifest).get("created"),
            dict(manifest.annotations).get(_CREATED),
        ):
            moment = _moment(text)
            found += [] if moment is None else [moment]
    return max(found, default=None)


def _moment(text: object) -> float | None:
    try:
        found = datetime.datetime.fromisoformat(text) if isinstance(text, str) else None
        return found.timestamp() if found and found.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _subject(holdings: Holdings, tag: Tag, digest: Digest) -> Digest | None:
    """Return the manifest that a tag's manifest refers to, by its subject or by the tag's name.

    None where that is not in the repository: then the tag is treated like any
    other.
    """
    subject = holdings.manifests[digest].subject
    named = subject.digest if subject else attached_to(tag)
    return named if named in holdings.manifests else None
