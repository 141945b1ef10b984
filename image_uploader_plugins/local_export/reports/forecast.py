# SPDX-License-Identifier: Apache-2.0
"""Forecasts of deletions, which change nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection

from image_uploader_plugins import errors
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.local_export import garbage
from image_uploader_plugins.local_export.graph import Inventory, Reference
from image_uploader_plugins.local_export.inventory import take_inventory
from image_uploader_plugins.local_export.link_counts import LinkCounts
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import RepositoryName


class Forecast:
    """A forecast of several deletions, one after the other; it changes nothing."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._counts = LinkCounts()

    def delete_all(
        self,
        name: RepositoryName,
        wanted: Collection[Reference],
        narrow: Callable[[Collection[Reference]], Collection[Reference]] = list,
        known: Inventory | None = None,
    ) -> Deletion:
        """Return what the deletion of these images of a repository would remove.

        An inventory of the repository that is ``known`` is not taken again.
        Raises NeedUnknown or StorageError where the deletion would.
        """
        repository = self._tree.repository(name)
        held = self._tree.leases.live(repository.layout)
        going = narrow(wanted)
        with self._tree.storage.holding():
            inventory = known or take_inventory(repository)
            plan = garbage.plan(self._tree.storage, repository, held, going, inventory)
        manifests = inventory.readable
        freed = sum(
            len(manifests[digest].content)
            if digest in manifests
            else repository.manifest_size(digest)
            for digest in plan.manifests
        )
        freed += self._tree.pool.freed(plan.blobs, self._counts)
        deletion = Deletion(plan.manifests, plan.digests, freed)
        if plan.doubts:
            raise errors.NeedUnknown(plan.doubts, deletion)
        return deletion
