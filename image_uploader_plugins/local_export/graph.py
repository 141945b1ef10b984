# SPDX-License-Identifier: Apache-2.0
"""Which manifests of a repository keep which others, for every driver.

Everything that removes manifests, forecasts a removal or judges one asks this
module. It knows names, digests and manifests, and nothing of how they are
stored.

The roots are the manifests that tags lead to, and those that were put without a
tag ("pins") and that no index lists. An index keeps its children, and a
manifest keeps its referrers. That counts whenever the kept manifest is present,
readable or not.

A manifest that cannot be read may list, refer to and need anything. While it
stays, nothing is removed whose need cannot be known, unless nothing else stays
that could have to do with it. To delete that manifest by its digest is to give
up what only it needed.

What a manifest needs follows from its digest. Once that was read it is known for
ever, whatever becomes of the bytes on the disk.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Generic, NamedTuple, TypeVar

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.storage import NotFound, failed

Reference = Tag | Digest
Edges = Mapping[Digest, Collection[Digest]]

_Tag = TypeVar("_Tag", bound=Hashable)
_Name = TypeVar("_Name", bound=Hashable)


class Needs(NamedTuple):
    """The needs of a manifest and what it keeps, all of it digests as texts.

    ``blobs`` are its config and layers, ``manifests`` those that it lists (None
    for a manifest that is no index), ``subject`` is the manifest that it refers
    to.
    """

    blobs: tuple[str, ...]
    manifests: tuple[str, ...] | None = None
    subject: str | None = None


def needs(parsed: Manifest) -> Needs:
    """Return what a manifest needs, which its digest alone determines."""
    blobs = tuple(dict.fromkeys(blob.digest.value for blob in all_blobs(parsed)))
    listed = tuple(dict.fromkeys(child.digest.value for child in parsed.manifests))
    subject = parsed.subject.digest.value if parsed.subject else None
    return Needs(blobs, listed if parsed.is_index else None, subject)


def manifest_of(digests: Sequence[_Name]) -> _Name:
    """Return the manifest that a tag or a pin is for, of those that it leads to."""
    return digests[0]


@dataclasses.dataclass(frozen=True)
class Graph(Generic[_Tag, _Name]):
    """The names of a repository, and what its manifests list and refer to.

    Manifests go by any name, as long as it is one and the same everywhere:
    Digest, or its text, with which sets are much faster. ``tags`` has for each
    tag the manifest that it is for, followed by the others that it leads to;
    ``pins`` keep manifests without a tag. ``listing`` has what indexes list,
    present or not, ``subjects`` the manifests that others refer to.
    """

    tags: Mapping[_Tag, Sequence[_Name]]
    pins: AbstractSet[_Name]
    present: AbstractSet[_Name]
    listing: Mapping[_Name, Collection[_Name]]
    subjects: Mapping[_Name, _Name]

    @functools.cached_property
    def tagged(self) -> Mapping[_Tag, _Name]:
        """Return the manifest that each tag is for, present or not; no tags that lead nowhere."""
        return {tag: manifest_of(digests) for tag, digests in self.tags.items() if digests}

    @functools.cached_property
    def listed(self) -> frozenset[_Name]:
        """Return the manifests that any index lists, present or not."""
        return frozenset(itertools.chain.from_iterable(self.listing.values()))

    @functools.cached_property
    def children(self) -> Mapping[_Name, Collection[_Name]]:
        """Return the manifests that each index lists, as far as they are present."""
        return {
            name: [child for child in children if child in self.present]
            for name, children in self.listing.items()
        }

    @functools.cached_property
    def referrers(self) -> Mapping[_Name, list[_Name]]:
        """Return the manifests that refer to each subject, sorted."""
        found: dict[_Name, list[_Name]] = {}
        for name in sorted(self.subjects):  # type: ignore[type-var]
            found.setdefault(self.subjects[name], []).append(name)
        return found

    def edges(self, without: Collection[_Tag | _Name] = ()) -> dict[_Name, list[_Name]]:
        """Return the manifests that each manifest keeps: its children and its referrers.

        A referrer that is itself in ``without`` is kept by no subject.
        """
        found = {name: list(children) for name, children in self.children.items()}
        for subject, referrers in self.referrers.items():
            kept = [name for name in referrers if name not in without]
            found[subject] = found.get(subject, []) + kept
        return found

    def roots(self, without: Collection[_Tag | _Name] = ()) -> set[_Name]:
        """Return the manifests that are kept by a name of their own, present or not."""
        tags = dict(self.tags)
        for tag in self.going(without):
            del tags[tag]
        found = {name for name in self.pins - self.listed if name not in without}
        return found.union(itertools.chain.from_iterable(tags.values()))

    def going(self, without: Collection[_Tag | _Name]) -> AbstractSet[_Tag]:
        """Return the tags that are in ``without``, or are for a manifest that is."""
        found = {name for name in without if name in self.tags}
        others = set(without) - found
        if others:
            found.update(tag for tag, name in self.tagged.items() if name in others)
        return found  # type: ignore[return-value]

    def live(self, without: Collection[_Tag | _Name] = ()) -> frozenset[_Name]:
        """Return the manifests that are present and that a name leads to."""
        return frozenset(closure(self.edges(without), self.roots(without)) & self.present)


class Fate(NamedTuple):
    """The manifests of a repository that stay, and those that may be removed.

    ``live`` are the manifests that names lead to. ``dead`` may be removed.
    ``doubts`` are the reasons why no others may be: manifests that stay
    although they cannot be read, and tags whose manifest is not known.
    """

    live: frozenset[Digest]
    dead: frozenset[Digest]
    doubts: tuple[Reference, ...] = ()


@dataclasses.dataclass(frozen=True)
class Inventory:
    """The names and manifests of a repository, as far as they can be read.

    ``tags`` has for each tag the manifest that it is for, followed by the
    others that it leads to; ``pins`` keep manifests without a tag.
    ``lost_tags`` and ``broken`` are the tags and manifests that are present and
    cannot be read, with the reason; of these, ``remembered`` are those whose
    needs are known all the same.
    """

    name: RepositoryName
    tags: Mapping[Tag, list[Digest]]
    lost_tags: Mapping[Tag, errors.UploaderError]
    pins: frozenset[Digest]
    readable: Mapping[Digest, Manifest]
    broken: Mapping[Digest, errors.UploaderError]
    remembered: Mapping[Digest, Needs] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def present(self) -> frozenset[Digest]:
        return frozenset(self.readable.keys() | self.broken.keys())

    @functools.cached_property
    def graph(self) -> Graph[Tag, Digest]:
        """Return the graph of these names and manifests."""
        listing = {
            digest: [child.digest for child in parsed.manifests]
            for digest, parsed in self.readable.items()
            if parsed.manifests
        }
        subjects = {d: m.subject.digest for d, m in self.readable.items() if m.subject}
        for digest, found in self.remembered.items():
            listing |= {digest: list(map(Digest, found.manifests))} if found.manifests else {}
            subjects |= {digest: Digest(found.subject)} if found.subject else {}
        return Graph(self.tags, self.pins, self.present, listing, subjects)

    @property
    def tagged(self) -> Mapping[Tag, Digest]:
        """Return the manifest that each tag is for, present or not; no tags that lead nowhere."""
        return self.graph.tagged

    @property
    def listed(self) -> frozenset[Digest]:
        """Return the manifests that any index lists, present or not."""
        return self.graph.listed

    @property
    def children(self) -> Edges:
        """Return the manifests that each index lists, as far as they are present."""
        return self.graph.children

    @functools.cached_property
    def parents(self) -> Edges:
        """Return, for each listed manifest, present or not, the manifests that list it."""
        found: dict[Digest, list[Digest]] = {}
        for digest, parsed in self.readable.items():
            for child in parsed.manifests:
                found.setdefault(child.digest, []).append(digest)
        return found

    @property
    def referrers(self) -> Edges:
        """Return the manifests that refer to each subject."""
        return self.graph.referrers

    def edges(self, without: Collection[Reference] = ()) -> Edges:
        """Return the manifests that each manifest keeps: its children and its referrers.

        A referrer that is itself in ``without`` is kept by no subject.
        """
        return self.graph.edges(without)

    def roots(self, without: Collection[Reference] = ()) -> set[Digest]:
        """Return the manifests that are kept by a name of their own, present or not."""
        return self.graph.roots(without)

    def live(self, without: Collection[Reference] = ()) -> frozenset[Digest]:
        """Return the manifests that are present and that a name leads to."""
        return self.graph.live(without)

    def fate(self, without: Collection[Reference] = ()) -> Fate:
        """Return which manifests stay and which may go, as if the names in ``without`` were gone.

        The names are tags, and digests, which stand for the manifest and all
        tags that are for it. A referrer among them goes although its subject
        stays.
        """
        gone = frozenset(without)
        edges, lost = self.edges(gone), set(self.lost_tags) - gone
        # A name without a manifest keeps nothing; verification reports it.
        live = self.live(gone)
        unknown = self.broken.keys() - self.remembered.keys()
        damaged = {digest for digest in unknown if self._stays(digest, live, gone)}
        # If nothing else stays, nothing can need what is deleted: all of it may go.
        if not live and not lost and damaged <= closure(edges, self._led_to(gone)):
            return Fate(live, self.present)
        if not damaged and not lost:
            return Fate(live, self.present - live)
        # A damaged manifest that is deleted by its digest goes; others may need its children.
        given_up = {digest for digest in unknown - live if digest in gone}
        return Fate(live, frozenset(given_up), (*sorted(lost), *sorted(damaged)))

    def _stays(self, digest: Digest, live: frozenset[Digest], gone: frozenset[Reference]) -> bool:
        if digest in live:
            return True
        # A put or a delete that was killed leaves a folder without content and names.
        return digest not in gone and not isinstance(self.broken[digest], NotFound)

    def _led_to(self, names: Iterable[Reference]) -> set[Digest]:
        """Return the manifests that names are for, and those of their tags."""
        found = {name for name in names if isinstance(name, Digest)}
        return found.union(*(self.tags.get(tag, ()) for tag in names if isinstance(tag, Tag)))

    def named(self, digest: Digest) -> tuple[str, ...]:
        """Return the tags that lead clients to a manifest, directly or through indexes.

        Where there are none, return its digest.
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
        """Yield the errors of what could not be read for now, and may be intact."""
        broken = (e for digest, e in self.broken.items() if digest not in self.remembered)
        return (error for error in (*self.lost_tags.values(), *broken) if failed(error))

    def doubt(self, reference: Reference, without: Collection[Reference] = ()) -> errors.Doubt:
        """Return why nothing is removed beside a tag or manifest that cannot be read.

        Its images are those that stay when the names in ``without`` are gone.
        """
        if isinstance(reference, Tag):
            name = f"{self.name}:{reference}"
            return errors.Doubt(name, str(self.lost_tags[reference]), (name,))
        gone = {f"{self.name}:{tag}" for tag in self.graph.going(without)}
        images = tuple(name for name in self._names.get(reference, ()) if name not in gone)
        return errors.Doubt(f"{self.name}@{reference}", str(self.broken[reference]), images)


def closure(kept: Mapping[_Name, Iterable[_Name]], roots: Iterable[_Name]) -> set[_Name]:
    """Return the roots, and everything that they keep.

    An absent root stays in the result, so that the caller can report it.
    """
    live = set(roots)
    pending = [name for name in live if name in kept]
    while pending:
        for name in kept.get(pending.pop(), ()):
            if name not in live:
                live.add(name)
                pending.append(name)
    return live


def all_blobs(parsed: Manifest) -> Iterable[Descriptor]:
    """Return config and layers, including those that may come from elsewhere."""
    return (d for d in (parsed.config, *parsed.layers) if d)
