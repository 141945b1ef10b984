# SPDX-License-Identifier: Apache-2.0
"""Content that a repository does not need any more, and its removal.

The rules for manifests are those of graph. Blobs are kept for the manifests
that stay and for uploads in flight.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.errors import Doubt
from image_uploader_plugins.local_export import graph, inventory, kept_outline, outline
from image_uploader_plugins.local_export.graph import Inventory, Needs, Reference
from image_uploader_plugins.local_export.kept_outline import KeptOutline, Rest
from image_uploader_plugins.local_export.link_counts import LinkCounts
from image_uploader_plugins.local_export.needs import Memory
from image_uploader_plugins.local_export.outline import Outline
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.views.referrers import by_subject
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.storage import DryRun, File, Storage, failed

Referrers = Mapping[Digest, Mapping[Digest, Manifest]]
"""The manifests that refer to others, by these subjects and then by their own digests."""


class Plan(NamedTuple):
    """The content that may be removed; manifests in the order of their removal.

    ``tags`` are those that go. ``unnamed`` are the manifests that stay and that
    neither a tag nor a pin names. ``subjects`` are the manifests that others
    refer to that stay, ``referrers`` those others where their list changes.
    ``left`` and ``left_tags`` are the manifests and tags that stay, and
    ``memory`` has what is known of them by now. ``doubts`` are the reasons why
    nothing else may be removed. ``kept`` is the outline to keep for the next
    plan, if there is one.
    """

    tags: frozenset[Tag]
    unnamed: Mapping[Digest, Manifest]
    subjects: frozenset[Digest]
    referrers: Referrers
    manifests: tuple[Digest, ...]
    blobs: tuple[tuple[Digest, File], ...]
    left: AbstractSet[str]
    left_tags: AbstractSet[str]
    memory: Memory
    doubts: tuple[Doubt, ...] = ()
    kept: KeptOutline | None = None

    @property
    def digests(self) -> tuple[Digest, ...]:
        """Return the digests of the blobs, each once: one may have two names."""
        return tuple(dict.fromkeys(digest for digest, _ in self.blobs))


def plan(
    storage: Storage,
    repository: Repository,
    held: frozenset[Digest],
    without: Collection[Reference] = (),
    known: Inventory | None = None,
    *,
    again: bool = False,
) -> Plan:
    """Return what neither a root of the repository nor an upload (``held``) needs.

    The answer is as if the names in ``without`` were gone, see
    graph.Inventory.fate(). An inventory that is ``known`` is not taken again.
    With ``again``, only what has changed since this process made its last plan
    is looked at, where that is known.

    Raises StorageError if a manifest or a tag cannot be read for now.
    """
    memory = Memory(storage, repository.layout)
    kept = kept_outline.OUTLINES.take(_key(storage, repository)) if again else None
    if kept and kept.catch_up(repository, memory):
        return _plan_again(repository, kept, memory, held, without)
    # Before anything is looked at, so that it tells of all later changes.
    watch = repository.watch(storage) if again and memory.was_kept else None
    found = None if known else outline.outline(repository, memory)
    if found and watch:
        kept = KeptOutline(found, memory, repository.blob_texts(), watch)
        return _plan_again(repository, kept, memory, held, without)
    if found:
        return _plan(repository, found, memory.needs, memory, held, without)
    taken = known or inventory.look(repository)
    remembered = {d: memory.needs[d.value] for d in taken.broken if d.value in memory.needs}
    taken = dataclasses.replace(taken, remembered=remembered) if remembered else taken
    for error in taken.unread():
        raise error
    needs = {digest.value: graph.needs(parsed) for digest, parsed in taken.readable.items()}
    for text in needs if known is None else ():
        memory.add(text, needs[text])
    needs |= {digest.value: found for digest, found in remembered.items()}
    found = outline.of_inventory(taken, needs)
    fate = taken.fate(without)
    if fate.doubts:
        doubts = tuple(taken.doubt(reference, without) for reference in fate.doubts)
        made = _doubtful(taken, found, memory, fate.dead, doubts, without)
    else:
        made = _plan(repository, found, needs, memory, held, without)
    lost = {tag for tag in taken.lost_tags if tag in without}
    return made._replace(tags=made.tags | lost)


def _key(storage: Storage, repository: Repository) -> Path:
    return storage.root / repository.layout.top


def _plan_again(
    repository: Repository,
    kept: KeptOutline,
    memory: Memory,
    held: frozenset[Digest],
    without: Collection[Reference],
) -> Plan:
    """Return what _plan() does for the outline, looking only at what has changed."""
    texts = frozenset(reference.value for reference in without)
    going = kept.going(texts)
    dead, unnamed = kept.judge(texts)
    changed = {needs.subject for text in dead if (needs := kept.present[text]).subject}
    subjects = {s for s in kept.subjects if not kept.referrers(s) <= dead}
    changed |= subjects - (repository.referrers.subjects() if subjects else set())
    referrers = {
        Digest(subject): _read(repository, kept.referrers(subject) - dead)
        for subject in subjects.intersection(changed)
    }
    blobs = kept.unneeded(repository, dead, {digest.value for digest in held})
    return Plan(
        frozenset(map(Tag, going)),
        _read(repository, unnamed),
        frozenset(map(Digest, subjects)),
        referrers,
        _ordered(map(Digest, dead), kept.present),
        tuple(blobs),
        Rest(kept.present.keys(), dead),
        Rest(kept.tags.keys(), going),
        memory,
        kept=kept,
    )


def _plan(
    repository: Repository,
    found: Outline,
    needs: Mapping[str, Needs],
    memory: Memory,
    held: frozenset[Digest],
    without: Collection[Reference],
) -> Plan:
    texts = frozenset(reference.value for reference in without)
    roots, going = found.roots(texts), found.going(texts)
    live = graph.closure(found.edges(texts), roots) & found.present
    dead = found.present - live
    needed = set(itertools.chain.from_iterable([needs[text].blobs for text in live]))
    needed.update(digest.value for digest in held)
    subjects = {found.subjects[text] for text in live & found.subjects.keys()}
    changed = {found.subjects[text] for text in dead & found.subjects.keys()}
    changed |= subjects - (repository.referrers.subjects() if subjects else set())
    unnamed = live - roots - (found.pins - texts)
    referrers = {
        Digest(subject): _read(repository, live.intersection(found.referrers[subject]))
        for subject in changed & subjects
    }
    return Plan(
        frozenset(map(Tag, going)),
        _read(repository, unnamed),
        frozenset(map(Digest, subjects)),
        referrers,
        _ordered(map(Digest, dead), needs),
        tuple(repository.unneeded(needed)),
        live,
        found.tags.keys() - going,
        memory,
    )


def _doubtful(
    taken: Inventory,
    found: Outline,
    memory: Memory,
    dead: Collection[Digest],
    doubts: Sequence[Doubt],
    without: Collection[Reference],
) -> Plan:
    """Return the plan for a repository in which it is not known what may be removed."""
    texts = frozenset(reference.value for reference in without)
    referrers = by_subject(taken.readable)
    left = found.present - {digest.value for digest in dead}
    going = found.going(texts)
    return Plan(
        frozenset(map(Tag, going)),
        {},
        frozenset(referrers),
        referrers,
        _ordered(dead, memory.needs),
        (),
        left,
        found.tags.keys() - going,
        memory,
        tuple(doubts),
    )


def _ordered(dead: Iterable[Digest], known: Mapping[str, Needs]) -> tuple[Digest, ...]:
    """Return manifests in the order of their removal."""

    def place(digest: Digest) -> tuple[bool, Digest]:
        # Indexes last: after a crash, pins of children whose index is gone would be roots.
        needs = known.get(digest.value)
        return needs is not None and needs.manifests is not None, digest

    return tuple(sorted(dead, key=place))


def _read(repository: Repository, texts: Iterable[str]) -> dict[Digest, Manifest]:
    """Return these manifests but for those that are damaged."""
    found = {}
    for digest in sorted(map(Digest, texts)):
        try:
            found[digest] = repository.read_manifest(digest)
        except (errors.ManifestInvalid, errors.StorageError) as e:
            if failed(e):
                raise
    return found


def sweep(
    storage: Storage, repository: Repository, found: Plan, *, thoroughly: bool = False
) -> int:
    """Carry out a plan; return the bytes freed, without those that the pool still holds.

    With ``thoroughly``, what is remembered of manifests that are gone is
    forgotten as well.
    """
    # A pin protects them from tripleo-common, too, which knows neither children
    # nor referrers.
    for digest, parsed in found.unnamed.items():
        repository.write_pin(parsed, digest)
    repository.referrers.keep(found.subjects, found.referrers)
    for digest in found.manifests:
        repository.remove_names(digest)
    # A power loss must not bring back a name whose content is gone, or a pin
    # whose index is.
    storage.sync()
    # Nor may lost content look like content that was given up on purpose.
    for digest in found.manifests:
        repository.strip_manifest(digest)
    storage.sync()
    freed = sum(repository.remove_manifest(digest) for digest in found.manifests)
    counts = LinkCounts()
    for _, file in found.blobs:
        storage.unlink(file.path)
        freed += counts.remove(file)
    if not isinstance(storage, DryRun):
        found.memory.save(found.left, found.left_tags, thoroughly=thoroughly)
    if found.kept:
        kept_outline.OUTLINES.put(_key(storage, repository), found.kept)
    return freed
