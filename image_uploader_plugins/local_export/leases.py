# SPDX-License-Identifier: Apache-2.0
"""Leases: they protect blobs of an upload that no manifest names yet."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.storage import File, NotFound, Storage, fork, unique

_REMOVED_MEANWHILE_TRIES = 100


class Leases:
    """The leases of all uploads into a tree, and which of them belong to this process.

    Each lease is a file of its own, so dropping one never removes another
    upload's protection of the same blob. A lease counts for ``timeout``
    seconds, since a process that was killed drops none.
    """

    def __init__(self, storage: Storage, timeout: int) -> None:
        self._storage = storage
        self._timeout = timeout
        self._renew()
        fork.in_child(self, Leases._renew)

    def _renew(self) -> None:
        # A child of fork begins with none: the leases belong to its parent's uploads.
        self._ours: dict[tuple[PurePosixPath, Digest], list[PurePosixPath]] = (
            collections.defaultdict(list)
        )
        self._lock = threading.Lock()

    def take(self, repository: RepositoryLayout, digest: Digest) -> None:
        """Take a lease on a blob of a repository, in the name of this process."""
        path = repository.lease(digest, unique())
        self._touch(path)
        with self._lock:
            self._ours[repository.leases, digest].append(path)

    def _touch(self, path: PurePosixPath) -> None:
        # Its folder may be removed, empty, between our entering it and making the file.
        for left in reversed(range(_REMOVED_MEANWHILE_TRIES)):
            try:
                self._storage.touch(path)
            except NotFound:
                if not left:
                    raise
            else:
                return

    def drop(self, repository: RepositoryLayout, digests: Iterable[Digest]) -> None:
        """Drop one lease of this process for each of ``digests``, if there is one."""
        for digest in digests:
            with self._lock:
                ours = self._ours.get((repository.leases, digest))
                path = ours.pop() if ours else None
            if path:
                self._storage.drop(path)

    def drop_all(self) -> None:
        """Drop all leases of this process."""
        with self._lock:
            paths = [path for ours in self._ours.values() for path in ours]
            self._ours.clear()
        for path in paths:
            self._storage.drop(path)

    def live(self, repository: RepositoryLayout) -> frozenset[Digest]:
        """Return the blobs that uploads in flight hold."""
        return frozenset(
            _digest(lease) for lease in self.all(repository.leases) if not self._ran_out(lease)
        )

    def expired(self, folder: PurePosixPath = layout.LEASES) -> list[File]:
        """Return the leases that ran out, of one repository or of the whole tree."""
        with self._storage.holding():
            return [lease for lease in self.all(folder) if self._ran_out(lease)]

    def all(self, folder: PurePosixPath = layout.LEASES) -> Iterator[File]:
        """Yield every lease in a folder."""
        for file in self._storage.below(folder):
            if file.kind == "file" and layout.folder_digest(_name(file)):
                yield file

    def tidy(self, repositories: Iterable[RepositoryLayout]) -> None:
        """Remove the empty lease folders of all repositories but these."""
        kept = {repository.leases.name for repository in repositories}
        for name, kind in self._storage.names(layout.LEASES).items():
            if kind == "folder" and name not in kept:
                self._storage.remove_empty(layout.LEASES / name)

    def _ran_out(self, lease: File) -> bool:
        # A clock set back makes a lease look young, never old.
        return time.time() - lease.modified >= self._timeout


def _name(lease: File) -> str:
    return lease.name.rpartition(".")[0]


def _digest(lease: File) -> Digest:
    return Digest(_name(lease))
