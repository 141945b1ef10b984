# SPDX-License-Identifier: Apache-2.0
"""Leases: they protect blobs of an upload that no manifest names yet."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.storage import File, NotFound, Storage, fork, unique

_REMOVED_MEANWHILE_TRIES = 100
_YOUNG = 0.1  # of the time for which a lease counts


class _Lease:
    """A lease of this process on ``digests``; for each of ``spare`` one may still be taken."""

    def __init__(
        self, path: PurePosixPath, digests: Iterable[Digest], spare: Iterable[Digest]
    ) -> None:
        self.path = path
        self.digests = frozenset(digests)
        self.spare = {*spare}
        self.taken = time.time()


class Leases:
    """The leases of all uploads into a tree, and which of them belong to this process.

    Each lease is a file of its own, so dropping one never removes another
    upload's protection of the same blob. Its name tells one blob, and its
    content further ones of the same upload. Under the repository's lock it is
    written, and read by whoever removes blobs. A lease counts for ``timeout``
    seconds, since a process that was killed drops none.
    """

    def __init__(self, storage: Storage, timeout: int) -> None:
        self._storage = storage
        self._timeout = timeout
        self._renew()
        fork.in_child(self, Leases._renew)

    def _renew(self) -> None:
        # A child of fork begins with none: the leases belong to its parent's uploads.
        self._ours: dict[PurePosixPath, list[_Lease]] = collections.defaultdict(list)
        self._lock = threading.Lock()

    def take(
        self,
        repository: RepositoryLayout,
        digests: Collection[Digest],
        soon: Collection[Digest] = (),
    ) -> None:
        """Take a lease on blobs of a repository, in the name of this process.

        The lease names those as well for which one is taken ``soon``, which
        then needs no file of its own.
        """
        with self._lock:
            ours = self._ours[repository.leases]
            named = [digest for digest in digests if not self._use(ours, digest)]
        if named:
            spare = [digest for digest in soon if digest not in digests]
            lease = self._make(repository, [*named, *spare], spare)
            with self._lock:
                self._ours[repository.leases].append(lease)

    def _use(self, ours: Iterable[_Lease], digest: Digest) -> bool:
        """Use up what a lease has spare, unless it would end soon; return whether that was so."""
        for lease in ours:
            if digest in lease.spare and time.time() - lease.taken < self._timeout * _YOUNG:
                lease.spare.remove(digest)
                return True
        return False

    def _make(
        self, repository: RepositoryLayout, digests: list[Digest], spare: Iterable[Digest]
    ) -> _Lease:
        named, *others = digests
        path = repository.lease(named, unique())
        self._touch(path, "".join(f"{digest}\n" for digest in others).encode())
        return _Lease(path, digests, spare)

    def _touch(self, path: PurePosixPath, content: bytes) -> None:
        # Its folder may be removed, empty, between our entering it and making the file.
        for left in reversed(range(_REMOVED_MEANWHILE_TRIES)):
            try:
                self._storage.touch(path, content)
            except NotFound:
                if not left:
                    raise
            else:
                return

    def drop(self, repository: RepositoryLayout, digests: Iterable[Digest]) -> None:
        """Drop leases of this process that name ``digests`` alone, none of these twice."""
        wanted, dropped = {*digests}, []
        with self._lock:
            ours = self._ours.pop(repository.leases, [])
            # That of an upload names more than those that are for a part of it.
            for lease in sorted(ours, key=lambda lease: -len(lease.digests)):
                if lease.digests <= wanted:
                    wanted -= lease.digests
                    dropped.append(lease)
            if len(dropped) < len(ours):
                self._ours[repository.leases] = [lease for lease in ours if lease not in dropped]
        for lease in dropped:
            self._storage.drop(lease.path)

    def drop_all(self) -> None:
        """Drop all leases of this process."""
        with self._lock:
            leases = [lease for ours in self._ours.values() for lease in ours]
            self._ours.clear()
        for lease in leases:
            self._storage.drop(lease.path)

    def live(self, repository: RepositoryLayout) -> frozenset[Digest]:
        """Return the blobs that uploads in flight hold."""
        leases = [lease for lease in self.all(repository.leases) if not self._ran_out(lease)]
        return frozenset(digest for lease in leases for digest in self._digests(lease))

    def _digests(self, lease: File) -> Iterator[Digest]:
        yield Digest(_name(lease))
        if lease.size:
            with contextlib.suppress(NotFound):  # it is dropped just now
                content = self._storage.read(lease.path).decode("ascii", "replace")
                yield from filter(None, map(layout.folder_digest, content.split()))

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
