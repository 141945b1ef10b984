# SPDX-License-Identifier: Apache-2.0
"""What keeps what alive in a repository, for every driver.

All who remove, foretell or judge ask here.  It knows names, digests and
manifests, and nothing of where they are kept.

Roots are the tags, and the manifests put without one ("pins") that no index
lists.  From there: an index needs its children; a manifest keeps its
referrers.  An edge counts whenever the manifest that it leads to is present,
readable or not.

What cannot be read may list, refer to and need anything, so absence of
knowledge is not absence of need: as long as such a manifest stays, and
something else stays that could have to do with it, nothing goes whose need
cannot be known.  Whoever deletes it by its digest gives it up.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.storage import NotFound, failed

Reference = Tag | Digest
Edges = Mapping[Digest, Collection[Digest]]


@dataclasses.dataclass(frozen=True)
class Fate:
    """What becomes of a repository's manifests.

    ``live`` are those that names lead to.  ``dead`` may go.  ``doubts`` are
    why nothing else may: manifests that stay although they cannot be read, and
    tags of which it is not known what they lead to.
    """

    live: frozenset[Digest]
    dead: frozenset[Digest]
    doubts: tuple[Reference, ...] = ()


@dataclasses.dataclass(frozen=True)
class Inventory:
    """The names and manifests of a repository, as far as they can be read.

    ``tags`` lead to the manifest that each is for, and then others; ``pins``
    keep manifests without a tag.  What is present and cannot be read is in
    ``lost_tags`` and ``broken``, with the reason.
    """

    name: RepositoryName
    tags: Mapping[Tag, list[Digest]]
    lost_tags: Mapping[Tag, errors.UploaderError]
    pins: frozenset[Digest]
    readable: Mapping[Digest, Manifest]
    broken: Mapping[Digest, errors.UploaderError]

    @functools.cached_property
    def present(self) -> frozenset[Digest]:
        return frozenset(self.readable.keys() | self.broken.keys())

    @functools.cached_property
    def tagged(self) -> Mapping[Tag, Digest]:
        """The manifest that each tag is for, present or not; no tag that leads nowhere."""
        return {tag: digests[0] for tag, digests in self.tags.items() if digests}

    @functools.cached_property
    def listed(self) -> frozenset[Digest]:
        """What any index lists, present or not."""
        return frozenset(d.digest for m in self.readable.values() for d in m.manifests)

    @functools.cached_property
    def children(self) -> Edges:
        """What each manifest lists, as far as it is there."""
        return {
            digest: [d.digest for d in parsed.manifests if d.digest in self.present]
            for digest, parsed in self.readable.items()
        }

    @functools.cached_property
    def parents(self) -> Edges:
        """The manifests that list each; also of those that are not there."""
        found: dict[Digest, list[Digest]] = {}
        for digest, parsed in self.readable.items():
            for child in parsed.manifests:
                found.setdefault(child.digest, []).append(digest)
        return found

    @functools.cached_property
    def referrers(self) -> Edges:
        """What has each manifest for its subject."""
        found: dict[Digest, list[Digest]] = {}
        for digest in sorted(self.readable):
            subject = self.readable[digest].subject
            if subject:
                found.setdefault(subject.digest, []).append(digest)
        return found

    def edges(self, without: Collection[Reference] = ()) -> Edges:
        """Return what each manifest keeps: what it lists, and what has it for a subject.

        A referrer ``without`` which things are looked at is kept by no subject.
        """
        found = {digest: list(children) for digest, children in self.children.items()}
        for subject, referrers in self.referrers.items():
            kept = [digest for digest in referrers if digest not in without]
            found[subject] = found.get(subject, []) + kept
        return found

    def roots(self, without: Collection[Reference] = ()) -> set[Digest]:
        """Return the manifests that are kept by a name of their own, present or not."""
        found = {digest for digest in self.pins - self.listed if digest not in without}
        for tag, digests in self.tags.items():
            if not self._goes(tag, without):
                found.update(digests)
        return found

    def live(self, without: Collection[Reference] = ()) -> frozenset[Digest]:
        """Return the manifests that are present and that a name leads to."""
        return frozenset(closure(self.edges(without), self.roots(without)) & self.present)

    def fate(self, without: Collection[Reference] = ()) -> Fate:
        """Return what stays and what may go, as if the names in ``without`` were gone.

        Tags, and digests with all tags that are for them.  A referrer among
        them goes although its subject stays.
        """
        gone = frozenset(without)
        edges, lost = self.edges(gone), set(self.lost_tags) - gone
        # A name that leads nowhere needs nothing; verification reports it.
        live = self.live(gone)
        damaged = {digest for digest in self.broken if self._stays(digest, live, gone)}
        # What is deleted goes whole if nothing is left that could have to do with it.
        if not live and not lost and damaged <= closure(edges, self._led_to(gone)):
            return Fate(live, self.present)
        if not damaged and not lost:
            return Fate(live, self.present - live)
        # Its own bytes are of no use to anybody, whatever it was to others.
        given_up = {digest for digest in self.broken.keys() - live if digest in gone}
        return Fate(live, frozenset(given_up), (*sorted(lost), *sorted(damaged)))

    def _stays(self, digest: Digest, live: frozenset[Digest], gone: frozenset[Reference]) -> bool:
        if digest in live:
            return True
        # A put or a delete that was killed leaves a folder without content or any of its names.
        return digest not in gone and not isinstance(self.broken[digest], NotFound)

    def _led_to(self, names: Iterable[Reference]) -> set[Digest]:
        """Return the manifests that names are for, and those of their tags."""
        found = {name for name in names if isinstance(name, Digest)}
        return found.union(*(self.tags.get(tag, ()) for tag in names if isinstance(tag, Tag)))

    def named(self, digest: Digest) -> tuple[str, ...]:
        """Return the tags that lead clients to a manifest, at once or through indexes.

        Its digest where none does.
        """
        return self._names.get(digest) or (f"{self.name}@{digest}",)

    @functools.cached_property
    def _names(self) -> Mapping[Digest, tuple[str, ...]]:
        listing = {d: [c.digest for c in m.manifests] for d, m in self.readable.items()}
        found: dict[Digest, list[str]] = {}
        for tag in sorted(self.tags):
            for digest in closure(listing, self.tags[tag]):
                found.setdefault(digest, []).append(f"{self.name}:{tag}")
        return {digest: tuple(names) for digest, names in found.items()}

    def unread(self) -> Iterator[errors.UploaderError]:
        """Why something could not be read for now, though it may be intact."""
        found = (*self.lost_tags.values(), *self.broken.values())
        return (error for error in found if failed(error))

    def doubt(self, reference: Reference, without: Collection[Reference] = ()) -> errors.Doubt:
        """Why nothing goes beside a tag or manifest that cannot be read.

        Its images are those that stay when the names in ``without`` are gone.
        """
        if isinstance(reference, Tag):
            name = f"{self.name}:{reference}"
            return errors.Doubt(name, str(self.lost_tags[reference]), (name,))
        gone = {f"{self.name}:{tag}" for tag in self.tags if self._goes(tag, without)}
        images = tuple(name for name in self._names.get(reference, ()) if name not in gone)
        return errors.Doubt(f"{self.name}@{reference}", str(self.broken[reference]), images)

    def _goes(self, tag: Tag, without: Collection[Reference]) -> bool:
        """Whether a tag is among names, or is for a digest that is."""
        return tag in without or self.tagged.get(tag) in without


def closure(kept: Mapping[Digest, Iterable[Digest]], roots: Iterable[Digest]) -> set[Digest]:
    """Return the roots, and all that they keep.

    An absent root stays in the result, for the caller to complain about.
    """
    live: set[Digest] = set()
    pending = list(roots)
    while pending:
        digest = pending.pop()
        if digest not in live:
            live.add(digest)
            pending += kept.get(digest, ())
    return live


def all_blobs(parsed: Manifest) -> Iterable[Descriptor]:
    """Config and layers, also those that may come from elsewhere."""
    return (d for d in (parsed.config, *parsed.layers) if d)
