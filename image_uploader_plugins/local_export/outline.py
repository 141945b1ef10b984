# SPDX-License-Identifier: Apache-2.0
"""The outline of a repository: its names and manifests, by texts alone.

It is made without opening the manifests whose needs are known, which is much
faster than an inventory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import graph
from image_uploader_plugins.local_export.graph import Graph, Inventory, Needs
from image_uploader_plugins.local_export.needs import Memory
from image_uploader_plugins.local_export.repository import Repository

Outline = Graph[str, str]
"""A graph in which tags and digests are texts."""


def outline(repository: Repository, memory: Memory) -> Outline | None:
    """Return the outline of a repository; add to the memory what had to be read for it.

    None where something is damaged, or is not as this package writes it: an
    inventory tells what.
    """
    try:
        found = repository.texts()
        if not found:
            return None
        tags, pins, present = found
        for text in sorted(present - memory.needs.keys()):
            memory.add(text, graph.needs(repository.read_manifest(Digest(text))))
        return _outline(_leads(repository, tags, memory), pins, present, memory.needs)
    except (errors.ManifestInvalid, errors.StorageError, errors.InvalidReference):
        return None


def _leads(repository: Repository, tags: Iterable[str], memory: Memory) -> dict[str, list[str]]:
    """Return where tags lead, of which only those are read whose files are not known."""
    ordered = list(tags)
    found = memory.leads(ordered, repository.identities(ordered))
    unknown = [tag for tag in ordered if tag not in found]
    for tag, (identity, leads) in zip(unknown, repository.leads(unknown), strict=True):
        memory.add_lead(tag, identity, leads)
        found[tag] = leads
    return found


def of_inventory(inventory: Inventory, needs: Mapping[str, Needs]) -> Outline:
    """Return the outline of an inventory; ``needs`` are those of the manifests that it has."""
    tags = {tag.value: [d.value for d in digests] for tag, digests in inventory.tags.items()}
    pins = {digest.value for digest in inventory.pins}
    return _outline(tags, pins, {digest.value for digest in inventory.present}, needs)


def _outline(
    tags: Mapping[str, Sequence[str]],
    pins: AbstractSet[str],
    present: AbstractSet[str],
    known: Mapping[str, Needs],
) -> Outline:
    found = ((text, known[text]) for text in present if text in known)
    edges = [(text, needs) for text, needs in found if needs.manifests or needs.subject]
    listing = {text: needs.manifests for text, needs in edges if needs.manifests}
    subjects = {text: needs.subject for text, needs in edges if needs.subject}
    return Graph(tags, pins, present, listing, subjects)
