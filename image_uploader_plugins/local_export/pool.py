# SPDX-License-Identifier: Apache-2.0
"""The pool: every blob of the tree once, by digest; repositories hold links to it."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.local_export import hashing, layout
from image_uploader_plugins.local_export.link_counts import LinkCounts
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.storage import File, NotFound, Staged, Storage

_GZIP = b"\x1f\x8b"  # RFC 1952, section 2.3.1
_REMEMBERED = 10_000

_Identity = tuple[tuple[int, int], int, float]


def _identity(file: File) -> _Identity:
    # The number of a removed file is soon used for another file.
    return file.inode, file.size, file.modified


def fits(file: File | None, size: int | None) -> bool:
    """Return whether there is a file, of ``size`` bytes or (None) of any size."""
    return file is not None and size in (None, file.size)


class Pool:
    """Verified content: everything in the pool hashes to its name.

    Callers of add(), link() and sweep() hold the pool's lock; check() and
    adopt() need no lock, since they only read and stage.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._damaged: set[_Identity] = set()
        # What a digest stands for never changes.
        self._gzipped: dict[Digest, bool] = {}

    def file(self, digest: Digest) -> File | None:
        """Return the file under this name, whatever its content."""
        return self._storage.lone_file(layout.pool_blob(digest))

    def _file_to_link(self, digest: Digest) -> File | None:
        """Do what file() does where the folder is needed next: for that it is entered at once."""
        return self._storage.file(layout.pool_blob(digest))

    def holds(self, digest: Digest, size: int | None = None) -> bool:
        """Return whether there is content of this size (None: of any) not known to be damaged."""
        return self.held(digest, size) is not None

    def held(self, digest: Digest, size: int | None = None) -> File | None:
        """Return the file that holds() is about; None where that returns False."""
        file = self.file(digest)
        return file if self._may_be(file, size) else None

    def held_to_link(self, digest: Digest, size: int | None = None) -> File | None:
        """Do what held() does, faster where link() follows."""
        file = self._file_to_link(digest)
        return file if self._may_be(file, size) else None

    def _may_be(self, file: File | None, size: int | None) -> bool:
        return file is not None and size in (None, file.size) and not self._is_damaged(file)

    def _is_damaged(self, file: File) -> bool:
        return bool(self._damaged) and _identity(file) in self._damaged

    def check(self, digest: Digest, repository: Repository) -> None:
        """Read the content in the pool and in a repository, and remember which is damaged.

        Takes no lock. Raises StorageError for a file that cannot be read: it is
        not known to be damaged.
        """
        pooled, present = self.file(digest), repository.blob(digest)
        if pooled:
            self._check(pooled, digest)
        if present and not (pooled and pooled.inode == present.inode):
            self._check(present, digest)

    def _check(self, file: File, digest: Digest) -> None:
        with contextlib.suppress(NotFound):
            if hashing.wrong_digest(self._storage, file.path, digest):
                self._damaged.add(_identity(file))

    def add(self, digest: Digest, staged: Staged) -> File | None:
        """Take in staged content unless the pool holds it; return the damaged file it replaced.

        Staged content has been verified, so held content of another size is
        damaged.
        """
        if len(staged.head) >= len(_GZIP):
            self._note_gzipped(digest, staged.head)
        before = self._file_to_link(digest)
        if self._may_be(before, staged.size):
            return None
        self._storage.publish(staged.path, layout.pool_blob(digest))
        return before

    def link(
        self,
        digest: Digest,
        repository: Repository,
        looked: tuple[File | None, File | None] | None = None,
    ) -> bool:
        """Make the repository's blob the pool's file; return False where the pool lacks it.

        Where the caller has just ``looked``, these are the pool's file and the
        repository's. Where links are refused, the blob becomes a copy unless it
        is one already.
        """
        pooled, present = looked or (self._file_to_link(digest), repository.blob(digest))
        if not pooled or self._is_damaged(pooled):
            return False
        if present and self._is_same(digest, pooled, present):
            self._storage.settle(present.path.parent)
        else:
            gzip = self._is_gzipped(digest, pooled)
            repository.link_blob(digest, pooled, gzip=gzip, replaces=present is not None)
        return True

    def _is_gzipped(self, digest: Digest, pooled: File) -> bool:
        known = self._gzipped.get(digest)
        if known is not None:
            return known
        return self._note_gzipped(digest, self._storage.head(pooled.path, len(_GZIP)))

    def _note_gzipped(self, digest: Digest, head: bytes) -> bool:
        """Remember, and return, whether content that begins so is gzipped."""
        if len(self._gzipped) >= _REMEMBERED:
            self._gzipped.clear()
        found = self._gzipped[digest] = head.startswith(_GZIP)
        return found

    def could_link(self, present: File) -> bool:
        """Return whether a repository's file could be the pool's as well, not just a copy."""
        if self._storage.is_hidden:
            return False  # it may be the pool's already
        pool = self._storage.status(layout.POOL)
        return pool is None or self._storage.can_link(present, pool)

    def shares(self, digest: Digest, present: File, size: int | None = None) -> bool:
        """Return whether a repository's file is_linked() to content that holds() is about."""
        pooled = self.held(digest, size)
        return pooled is not None and self.is_linked(digest, present, pooled=pooled)

    def is_linked(self, digest: Digest, present: File, *, pooled: File | None = None) -> bool:
        """Return whether a repository's file is the pool's or, if links are refused, its copy.

        ``pooled`` is the pool's file, where the caller has just looked. Where
        the pool is hidden, a file is taken to be linked.
        """
        if self._storage.is_hidden:
            return True
        pooled = pooled or self.file(digest)
        return pooled is not None and (
            pooled.inode == present.inode or self._is_copy(pooled, present)
        )

    def _is_copy(self, pooled: File, present: File) -> bool:
        copied = self._storage.is_copy(pooled, present)
        return copied and not self._storage.can_link(pooled, present)

    def _is_same(self, digest: Digest, pooled: File, present: File) -> bool:
        if pooled.inode == present.inode:
            return True
        if not self._may_be(present, pooled.size) or self._storage.can_link(pooled, present):
            return False
        return self._storage.is_copy(pooled, present) or self._is_intact(digest, pooled, present)

    def _is_intact(self, digest: Digest, pooled: File, present: File) -> bool:
        """Return whether a file of unknown origin is intact; if so, give it the pool's time.

        From then on the time shows that it is a copy, and it is not read again.
        """
        try:
            if hashing.wrong_digest(self._storage, present.path, digest):
                return False
            self._storage.date(present.path, pooled.modified_ns)
        except errors.StorageDenied:
            return True
        except errors.StorageError:
            return False
        return True

    def is_healed_by(self, replaced: File, digest: Digest, repository: Repository) -> bool:
        """Return whether a repository holds the same damage as ``replaced``, once in the pool.

        That is the same file or, where links are refused, a copy of it: of
        another size than the pool's file now, or with other bytes.
        """
        pooled, present = self.file(digest), repository.blob(digest)
        if not pooled or not present or present.inode == pooled.inode:
            return False
        if present.inode == replaced.inode or present.size != pooled.size:
            return True
        self._check(present, digest)
        return self._is_damaged(present)

    def adopt(
        self, digest: Digest, repository: Repository, size: int | None = None
    ) -> Staged | None:
        """Stage a blob that ``repository`` holds and the pool does not, if it is intact.

        Other tools wrote such blobs, and leave half a blob under its final name
        when they are killed. It may also be that the pool's file is damaged and
        links were refused.
        """
        present = None if self.holds(digest, size) else repository.blob(digest)
        if not present or not self._may_be(present, size):
            return None
        try:
            staged = self._storage.stage_link(present.path)
        except NotFound:
            return None
        try:
            for _ in VerifiedStream(self._storage.chunks(staged), digest):
                pass
        except errors.DigestMismatch:
            self._storage.discard(staged)
            return None
        except BaseException:
            self._storage.discard(staged)
            raise
        self._storage.sync_file(staged)
        return Staged(staged, present.size)

    def files(self) -> Iterator[tuple[Digest, File]]:
        """Yield all blobs in the order of their digests; other files are ignored."""
        return self.among(self._storage.below(layout.POOL))

    def among(self, files: Iterable[File]) -> Iterator[tuple[Digest, File]]:
        """Yield those of the files that are blobs in the pool."""
        for file in files:
            digest = layout.pool_digest(file.place)
            if digest and file.kind == "file":
                yield digest, file

    def sweep(self, digests: Iterable[Digest]) -> int:
        """Remove the blobs that no repository links to any more; return the bytes freed.

        NOTE: where links are refused every repository has a copy, and the
        pool's file has one link from the start. It then goes with the first
        delete; no content is lost, but a later upload fetches it again.
        """
        counts, freed = LinkCounts(), 0
        for pooled in self.unlinked(digests, counts):
            self._storage.unlink(pooled.path)
            freed += counts.remove(pooled)
        return freed

    def freed(self, blobs: Collection[tuple[Digest, File]], counts: LinkCounts) -> int:
        """Return the bytes that the disk gets back when repositories lose these blobs.

        ``counts`` are the links that went before. Where the pool is hidden, the
        last link to a blob is taken for the pool's.
        """
        freed = sum(counts.remove(file) for _, file in blobs)
        if self._storage.is_hidden:
            last = {file.inode: file.size for _, file in blobs if counts.is_last(file)}
            return freed + sum(last.values())
        pooled = self.unlinked(dict.fromkeys(digest for digest, _ in blobs), counts)
        return freed + sum(map(counts.remove, pooled))

    def unlinked(self, digests: Iterable[Digest], counts: LinkCounts) -> Iterator[File]:
        """Yield the files of these digests that no repository links to, by these counts."""
        pooled = (self.file(digest) for digest in digests)
        return (file for file in pooled if file and counts.is_last(file))
