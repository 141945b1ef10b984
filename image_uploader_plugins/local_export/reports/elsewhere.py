# SPDX-License-Identifier: Apache-2.0
"""Parts of a repository's images that are not in the tree, on purpose."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.graph import Inventory
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.text import enumerated
from image_uploader_plugins.units import plural


def notes(
    repository: Repository, inventory: Inventory, digests: Iterable[Digest]
) -> Iterator[tuple[Digest, str]]:
    """Yield a line for each of these manifests of which a part is left out on purpose.

    Raises StorageError where that cannot be read.
    """
    for digest in sorted(inventory.readable.keys() & set(digests)):
        parsed = inventory.readable[digest]
        absent = left_out(repository, inventory, digest)
        if absent:
            listed = len({child.digest for child in parsed.manifests})
            left = f"sparse: {len(absent)} of {listed} manifests were left out on purpose"
            yield digest, left + _platforms_here(parsed, absent)
        away = _layers_elsewhere(repository, parsed)
        if away:
            held = f"{len(away)} of {len({layer.digest for layer in parsed.layers})} layers"
            yield digest, f"elsewhere: {held} are not in the tree; clients get them by their urls"


def platforms(parsed: Manifest, absent: Collection[Digest]) -> tuple[list[str], list[str]]:
    """Return the platforms of an index that are here, and those that just ``absent`` parts have."""
    found: dict[str, bool] = {}
    for child in parsed.manifests:
        name = str(child.platform)
        if name and not child.runs_nowhere:
            found[name] = found.get(name, False) or child.digest not in absent
    here = [name for name, is_here in found.items() if is_here]
    return here, [name for name, is_here in found.items() if not is_here]


def _platforms_here(parsed: Manifest, absent: Collection[Digest]) -> str:
    here, away = platforms(parsed, absent)
    if not here and not away:
        return ""
    counts = f"; {len(here)} of {plural(len(here) + len(away), 'platform')} are here"
    return counts + (f": {enumerated(here)}" if here else "")


def left_out(repository: Repository, inventory: Inventory, index: Digest) -> frozenset[Digest]:
    """Return the children of an index that were left out on purpose and are still absent."""
    parsed = inventory.readable.get(index)
    if not parsed or not parsed.is_index:
        return frozenset()
    absent = {child.digest for child in parsed.manifests} - inventory.present
    return repository.left_out(index) & absent if absent else frozenset()


def _layers_elsewhere(repository: Repository, parsed: Manifest) -> set[Digest]:
    away = {layer.digest for layer in parsed.layers if layer.urls}
    return {digest for digest in away if not repository.blob(digest)}
