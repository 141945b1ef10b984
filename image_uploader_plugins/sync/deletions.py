# SPDX-License-Identifier: Apache-2.0
"""The tags that leave a target, since a list that mirrors no longer wants them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.lists import share
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag, attached_to
from image_uploader_plugins.sync.wanted import Entry

Reference = Tag | Digest


class Going(NamedTuple):
    """The ``tags`` of a repository that go, each with what it leads to, out of ``total``.

    ``attached`` are those of signatures and the like, which go once their
    image is gone, and are not counted; that of ``stale`` ones is gone
    already.  ``problem`` is why nothing goes, "" if nothing speaks against it.
    """

    name: RepositoryName
    tags: Mapping[Tag, Digest | None]
    attached: Mapping[Tag, Digest | None]
    total: int
    problem: str = ""
    stale: tuple[Tag, ...] = ()


class Deletions:
    """The repositories of a driver, called ``target``, that lists mirror.

    ``most`` is the share of the tags of one of them that may go; ``deleted``
    are those that went.
    """

    def __init__(self, driver: UploaderDriver, target: str, most: Fraction) -> None:
        self._driver = driver
        self._target = target
        self._most = most
        self.deleted: list[ImageRef] = []

    def check(self, names: Mapping[RepositoryName, Entry]) -> None:
        """Raise ConfigurationError where a driver cannot list what entries mirror."""
        for name, entry in names.items():
            if self._driver.tags(name) is None:
                raise errors.ConfigurationError(
                    f"{entry.where}: mirror: the driver {self._target!r} does not list its tags, "
                    "so none of them can be found to be unwanted"
                )

    def going(self, wanted: Mapping[RepositoryName, Collection[Tag]]) -> Iterator[Going]:
        """Yield what goes of each repository of which just these tags are ``wanted``."""
        for name, tags in wanted.items():
            try:
                yield self._going(name, frozenset(tags))
            except errors.UploaderError as e:
                yield Going(name, {}, {}, 0, f"{name} is left as it is: {e}")

    def _going(self, name: RepositoryName, wanted: frozenset[Tag]) -> Going:
        there = {tag: self._resolved(name, tag) for tag in self._driver.tags(name) or ()}
        attached = {tag: there.pop(tag) for tag in list(there) if attached_to(tag)}
        unwanted = {tag: there[tag] for tag in sorted(there.keys() - wanted)}
        problem = share.excess(len(unwanted), len(there), str(name), self._most)
        # Where there are no images, their signatures are kept apart from them.
        names = sorted(attached.keys() - wanted) if there else []
        stale = tuple(tag for tag in names if not self._is_attached(name, tag))
        more = {tag: attached[tag] for tag in names}
        return Going(name, unwanted, more, len(there), problem, stale)

    def delete(self, going: Going) -> None:
        """Delete tags, and then those of signatures whose images are gone.

        What leads elsewhere by now stays.  Raises UploaderErrors; ``deleted``
        has what went.
        """
        self._delete(going.name, going.tags)
        left = dict(going.attached)
        # What was signed may be a signature.
        while gone := [tag for tag in left if not self._is_attached(going.name, tag)]:
            self._delete(going.name, {tag: left.pop(tag) for tag in gone})

    def _delete(self, name: RepositoryName, tags: Mapping[Tag, Digest | None]) -> None:
        still: list[Reference] = []

        def narrow(references: Collection[Reference]) -> Collection[Reference]:
            still.extend(
                tag
                for tag in references
                if isinstance(tag, Tag) and self._resolved(name, tag) == tags[tag]
            )
            return list(still)

        try:
            if tags:
                self._driver.delete_all(name, list(tags), narrow)
        except errors.NeedUnknown:
            self.deleted += [ImageRef(name, tag) for tag in still]
            raise
        self.deleted += [ImageRef(name, tag) for tag in still]

    def _is_attached(self, name: RepositoryName, tag: Tag) -> bool:
        """Return whether a tag is that of a signature or the like of something that is there."""
        subject = attached_to(tag)
        return subject is not None and self._resolved(name, subject) is not None

    def _resolved(self, name: RepositoryName, reference: Reference) -> Digest | None:
        return self._driver.resolve(ImageRef(name, reference))


def mirrored(
    entries: Iterable[tuple[RepositoryName, Entry]],
) -> dict[RepositoryName, Entry]:
    """Return the repositories that entries mirror, each with the first entry that does."""
    found: dict[RepositoryName, Entry] = {}
    for name, entry in entries:
        if entry.mirror:
            found.setdefault(name, entry)
    return found
