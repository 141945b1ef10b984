"""What deletes would take away, found out without changing anything."""

from __future__ import annotations

import collections
from collections.abc import Collection

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.local_export import gc
from image_uploader_plugins.local_export.pool import Pool
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.storage import File
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import Tag


class Links:
    """Counts links as removed, and with the last one of a file the bytes that the disk gets back.

    The pool's own goes with the last of the repositories'.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._gone: collections.Counter[tuple[int, int]] = collections.Counter()

    def remove(self, digest: Digest, file: File) -> int:
        """Bytes freed with a repository's file."""
        freed = self._remove(file)
        pooled = self._pool.file(digest)
        if pooled and pooled.links - self._gone[pooled.inode] == 1:
            freed += self._remove(pooled)
        return freed

    def _remove(self, file: File) -> int:
        self._gone[file.inode] += 1
        return file.size if self._gone[file.inode] == file.links else 0


class Preview:
    """Tells what one delete after another would say, as if those before it had been done."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._links = Links(tree.pool)

    def delete(self, repository: Repository, references: Collection[Tag | Digest]) -> Deletion:
        """Under the repository's lock; raises what LocalExportDriver.delete_chosen() would.

        But not ImageUnknown: what is not there takes nothing away.
        """
        storage = self._tree.storage
        names = gc.names(repository, references)
        plan = gc.plan(storage, repository, self._tree.leases.live(repository.layout), names)
        contents = (storage.file(repository.layout.manifest_content(d)) for d in plan.manifests)
        freed = sum(content.size for content in contents if content)
        freed += sum(self._links.remove(digest, file) for digest, file in plan.blobs)
        return Deletion(plan.manifests, tuple(dict.fromkeys(d for d, _ in plan.blobs)), freed)
