# SPDX-License-Identifier: Apache-2.0
"""The images to export: chosen under the tree's locks, and leased until the end."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.archives import oci_layout
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import graph
from image_uploader_plugins.local_export.graph import Inventory
from image_uploader_plugins.local_export.inventory import take_inventory
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.patterns import Pattern
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.text import shown


@dataclasses.dataclass
class Selection:
    """Entries of an index.json, and the content that they need.

    ``holders`` names a repository for each blob; ``problems`` are images that
    cannot be exported, and why.
    """

    entries: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    manifests: dict[Digest, bytes] = dataclasses.field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = dataclasses.field(default_factory=dict)
    holders: dict[Digest, RepositoryName] = dataclasses.field(default_factory=dict)
    problems: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def selected(
    tree: Tree, patterns: Sequence[Pattern] = (), meter: Meter | None = None
) -> Iterator[Selection]:
    """Select the images that match one of ``patterns`` (default: all), with what refers to them.

    A pattern is for a repository, ``repository:tag`` or ``repository@digest``.
    Where leases can be taken, no delete takes the blobs away until the context
    ends.  Raises ImageUnknown for a pattern that nothing matches.  ``meter``
    counts the repositories.
    """
    selector = _Selector(tree, patterns)
    try:
        names = tree.repositories()
        for name in (meter or Meter()).each("Read {} repositories", names):
            with tree.repository_lock(name):
                selector.add(tree.repository(name))
        for pattern in patterns:
            if pattern not in selector.matched:
                raise errors.ImageUnknown(
                    f"no image {shown(pattern.text)} in {tree.storage.root}", shown(pattern.text)
                )
        yield selector.selection
    finally:
        _drop_leases(tree, selector.selection.holders)


def _drop_leases(tree: Tree, holders: Mapping[Digest, RepositoryName]) -> None:
    held = collections.defaultdict(list)
    for digest, holder in holders.items():
        held[holder].append(digest)
    for holder, digests in held.items() if tree.can_lease else ():
        place = tree.repository(holder).layout
        tree.leases.drop(place, digests)
        tree.storage.remove_empty(place.leases)


class _Selector:
    """Goes through repositories; ``matched`` are the patterns that chose something."""

    def __init__(self, tree: Tree, patterns: Sequence[Pattern]) -> None:
        self._tree = tree
        self._patterns = patterns
        self.selection = Selection()
        self.matched: set[Pattern] = set()

    def add(self, repository: Repository) -> None:
        """Add what is chosen of a repository, and lease its blobs; the caller has its lock."""
        tags, digests = self._chosen(repository)
        if not tags and not digests:
            return
        part = _Part(repository, tags, digests)
        for tag, digest in part.names():
            problem = part.problem(digest)
            if digest is None or problem:
                name = f"{repository.name}:{tag}" if tag else f"{repository.name}@{digest}"
                self.selection.problems.append(f"{name}: {problem}")
                continue
            self.selection.entries.append(part.entry(tag, digest))
            for member, parsed in part.parts(digest).items():
                self.selection.manifests[member] = parsed.content
                self._hold(repository, parsed)

    def _hold(self, repository: Repository, parsed: Manifest) -> None:
        blobs = {b.digest: b for b in parsed.blobs() if b.digest not in self.selection.holders}
        if self._tree.can_lease:
            self._tree.leases.take(repository.layout, blobs)
        self.selection.holders |= dict.fromkeys(blobs, repository.name)
        self.selection.blobs |= blobs

    def _chosen(self, repository: Repository) -> tuple[list[Tag], set[Digest]]:
        name, tags, pins = repository.name, sorted(repository.tags()), repository.pins()
        if self._matches(name):
            return tags, pins
        digests = {d for d in repository.manifests() if self._matches(name, d)}
        return [tag for tag in tags if self._matches(name, tag)], digests

    def _matches(self, name: RepositoryName, *reference: Tag | Digest) -> bool:
        found = {pattern for pattern in self._patterns if pattern.fits(name, *reference)}
        self.matched |= found
        return bool(found) or not self._patterns


class _Part:
    """The chosen images of one repository, with their children and referrers."""

    def __init__(self, repository: Repository, tags: Sequence[Tag], digests: set[Digest]) -> None:
        self._repository = repository
        self._inventory: Inventory = take_inventory(repository)
        self._problems: dict[Digest, str] = {}
        tagged, present = self._inventory.tagged, self._inventory.present
        self._tagged = {tag: tagged[tag] if tagged.get(tag) in present else None for tag in tags}
        self._roots = {*self._tagged.values(), *digests} - {None}

    def names(self) -> Iterator[tuple[Tag | None, Digest | None]]:
        """Yield each tag with its manifest, and the manifests that no tag keeps."""
        yield from self._tagged.items()
        readable = self._inventory.readable
        roots = filter(None, self._roots)
        live = graph.closure(self._inventory.edges(), roots) & self._inventory.present
        children = {c.digest for d in live if d in readable for c in readable[d].manifests}
        named = set(self._tagged.values()) - self._repository.pins()
        yield from ((None, digest) for digest in sorted(live - children - named))

    def problem(self, digest: Digest | None) -> str | None:
        """Return why an image cannot be exported; None if it can."""
        if digest is None:
            return "it leads to no manifest that is there"
        if digest in self._inventory.broken:
            return str(self._inventory.broken[digest])
        for name, parsed in self.parts(digest).items():
            if name not in self._problems:
                self._problems[name] = self._problem(parsed) or ""
            if self._problems[name]:
                return self._problems[name]
        broken = self._children(digest) & self._inventory.broken.keys()
        return str(self._inventory.broken[min(broken)]) if broken else None

    def parts(self, digest: Digest) -> dict[Digest, Manifest]:
        """Return a manifest and, for an index, all that are in it and in the repository."""
        found: dict[Digest, Manifest] = {}
        pending = [digest]
        while pending:
            name = pending.pop()
            if name not in found and name in self._inventory.readable:
                found[name] = self._inventory.readable[name]
                pending += [child.digest for child in found[name].manifests]
        return found

    def entry(self, tag: Tag | None, digest: Digest) -> dict[str, Any]:
        """Return the descriptor of an image for index.json."""
        parsed, name = self._inventory.readable[digest], self._repository.name
        annotations = {oci_layout.REPOSITORY: name.value}
        if tag:
            annotations[oci_layout.REF_NAME] = f"{name}:{tag}"
        absent = self._children(digest) - self._inventory.present
        if absent:
            annotations[oci_layout.ABSENT] = ",".join(sorted(d.value for d in absent))
        described = Descriptor(parsed.media_type, digest, len(parsed.content))
        return described.as_dict() | {"annotations": annotations}

    def _children(self, digest: Digest) -> set[Digest]:
        return {
            child.digest
            for parsed in self.parts(digest).values()
            for child in parsed.manifests
            if child.media_type in media_types.MANIFEST_TYPES
        }

    def _problem(self, parsed: Manifest) -> str | None:
        if parsed.media_type in media_types.SCHEMA1_TYPES:
            return "a schema 1 manifest, for which an OCI layout has no place"
        for blob in parsed.blobs():
            file = self._repository.blob(blob.digest)
            if file is None:
                return f"blob {blob.digest} is missing"
            if blob.size not in (None, file.size):
                return f"blob {blob.digest} has {file.size} bytes, expected {blob.size}"
        return None
