# SPDX-License-Identifier: Apache-2.0
"""The census: how much a tree holds."""

from __future__ import annotations

from image_uploader_plugins.driver import Census
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.storage import File

_Inode = tuple[int, int]


class Counting:
    """A count of a tree, made without a lock; what is written meanwhile may be missing.

    Raises StorageError where something cannot be read, since the numbers would
    then be wrong.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._sizes: dict[_Inode, int] = {}
        self._blobs: set[_Inode] = set()
        self._linked = 0  # bytes, where a file counts once for each of its names
        self._tags = 0

    def census(self) -> Census:
        """Count everything that the tree holds."""
        names = self._tree.repositories()
        for name in names:
            self._count(self._tree.repository(name))
        in_repositories = sum(self._sizes.values())
        for _, file in self._tree.pool.files():
            self._blob(file)
        leases = (lease.modified for lease in self._tree.leases.all())
        return Census(
            repositories=len(names),
            tags=self._tags,
            blobs=len(self._blobs),
            bytes_stored=sum(self._sizes.values()),
            bytes_shared=self._linked - in_repositories,
            oldest_lease=min(leases, default=None),
        )

    def _count(self, repository: Repository) -> None:
        self._tags += len(repository.tags())
        for _, path in repository.blobs():
            file = self._tree.storage.file(path)
            if file:
                self._blob(file)
                self._linked += file.size
        for digest in repository.manifests():
            file = self._tree.storage.file(repository.layout.manifest_content(digest))
            if file:
                self._sizes[file.inode] = file.size
                self._linked += file.size

    def _blob(self, file: File) -> None:
        self._blobs.add(file.inode)
        self._sizes[file.inode] = file.size
