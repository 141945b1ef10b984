# SPDX-License-Identifier: Apache-2.0
"""Content that a repository does not need any more, and its removal.

The rules for manifests are those of graph. Blobs are kept for the manifests
that stay and for uploads in flight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.errors import Doubt
from image_uploader_plugins.local_export import graph
from image_uploader_plugins.local_export.graph import Inventory, Reference
from image_uploader_plugins.local_export.inventory import take_inventory
from image_uploader_plugins.local_export.link_counts import LinkCounts
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.storage import File, Storage


@dataclasses.dataclass(frozen=True)
class Plan:
    """The content that may be removed; manifests in the order of their removal.

    ``live`` are the manifests that stay and can be read; ``unnamed`` are those
    of them that neither a tag nor a pin names. ``doubts`` are the reasons why
    nothing else may be removed.
    """

    live: Mapping[Digest, Manifest]
    unnamed: frozenset[Digest]
    manifests: tuple[Digest, ...]
    blobs: tuple[tuple[Digest, File], ...]
    doubts: tuple[Doubt, ...] = ()

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
) -> Plan:
    """Return what neither a root of the repository nor an upload (``held``) needs.

    The answer is as if the names in ``without`` were gone, see
    graph.Inventory.fate(). An inventory that is ``known`` is not taken again.

    Raises StorageError if a manifest or a tag cannot be read for now.
    """
    inventory = known or take_inventory(repository)
    fate = inventory.fate(without)
    dead = sorted(fate.dead)
    # Indexes last: after a crash, pins of children whose index is gone would be roots.
    dead.sort(key=lambda d: d in inventory.readable and inventory.readable[d].is_index)
    if fate.doubts:
        doubts = tuple(inventory.doubt(reference, without) for reference in fate.doubts)
        return Plan(inventory.readable, frozenset(), tuple(dead), (), doubts)
    live = {d: inventory.readable[d] for d in fate.live}
    needed = {b.digest for parsed in live.values() for b in graph.all_blobs(parsed)} | held
    files = ((d, storage.file(path)) for d, path in repository.blobs(spared=needed))
    blobs = tuple((d, file) for d, file in files if file)
    unnamed = live.keys() - inventory.roots(without) - inventory.pins.difference(without)
    return Plan(live, frozenset(unnamed), tuple(dead), blobs)


def sweep(storage: Storage, repository: Repository, found: Plan) -> int:
    """Carry out a plan; return the bytes freed, without those that the pool still holds."""
    # A pin protects them from tripleo-common, too, which knows neither children
    # nor referrers.
    for digest in sorted(found.unnamed):
        repository.write_pin(found.live[digest], digest)
    repository.referrers.rebuild(found.live)
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
    return freed
