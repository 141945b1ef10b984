"""What protects blobs that an upload has put down and no manifest names yet."""

from __future__ import annotations

import collections
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import PurePosixPath

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.storage import Storage


class Leases:
    """The leases of all uploads into a tree, and which of them are ours.

    Each is a file of its own, so dropping one never takes another upload's
    protection of the same blob away.  They count for ``timeout`` seconds: a
    killed process drops nothing.
    """

    def __init__(self, storage: Storage, timeout: int) -> None:
        self._storage = storage
        self._timeout = timeout
        self._ours: dict[PurePosixPath, list[PurePosixPath]] = collections.defaultdict(list)
        self._lock = threading.Lock()

    def take(self, repository: RepositoryLayout, digest: Digest) -> None:
        path = repository.leases / f"{digest}.{uuid.uuid4().hex}"
        self._storage.touch(path)
        with self._lock:
            self._ours[repository.leases / digest.value].append(path)

    def drop(self, repository: RepositoryLayout, digests: Iterable[Digest]) -> None:
        """Drop one of ours for each of ``digests``, if there is one."""
        for digest in digests:
            with self._lock:
                ours = self._ours.get(repository.leases / digest.value)
                path = ours.pop() if ours else None
            if path:
                self._storage.unlink(path)

    def drop_all(self) -> None:
        """Drop all that are ours."""
        with self._lock:
            paths = [path for ours in self._ours.values() for path in ours]
            self._ours.clear()
        for path in paths:
            self._storage.unlink(path)

    def live(self, repository: RepositoryLayout) -> frozenset[Digest]:
        """The blobs that uploads in flight hold; removes the leases that ran out."""
        held = set()
        for name in self._storage.names(repository.leases):
            file = self._storage.file(repository.leases / name)
            digest = layout.folder_digest(name.rpartition(".")[0])
            if not file or digest is None:
                continue
            # A clock set back makes a lease look young, never old.
            if time.time() - file.modified < self._timeout:
                held.add(digest)
            else:
                self._storage.unlink(file.path)
        return frozenset(held)
