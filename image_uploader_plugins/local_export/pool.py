"""Every blob of the tree once, by digest; repositories hold links to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.storage import File, NotFound, Staged, Storage


def fits(file: File | None, size: int | None) -> bool:
    """Whether there is a file, of ``size`` bytes or (None) of any size."""
    return file is not None and size in (None, file.size)


class Pool:
    """Verified content: what is in here hashes to its name.

    add(), link() and sweep() must be called with the pool's lock held; adopt()
    takes no lock, since it only ever stages.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def file(self, digest: Digest) -> File | None:
        return self._storage.file(layout.pool_blob(digest))

    def add(self, digest: Digest, staged: Staged) -> None:
        """Take in staged content unless the pool holds it; another size is damage."""
        if not fits(self.file(digest), staged.size):
            self._storage.publish(staged.path, layout.pool_blob(digest))

    def link(self, digest: Digest, repository: Repository) -> bool:
        """Make the repository's blob the pool's file; False where the pool lacks it."""
        pooled, present = self.file(digest), repository.blob(digest)
        if not pooled:
            return False
        if not present or present.inode != pooled.inode:
            repository.link_blob(digest, pooled.path)
        else:
            self._storage.settle(present.path.parent)
        return True

    def adopt(self, digest: Digest, repository: Repository) -> Staged | None:
        """Stage a blob that ``repository`` holds and the pool does not, if it is intact.

        Such blobs were written by other tools, which left half a blob under
        its final name when they were killed.
        """
        present = repository.blob(digest)
        if not present or self.file(digest):
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
        return Staged(staged, present.size, gzip=False)

    def files(self) -> Iterator[tuple[Digest, File]]:
        """All that it holds, in the order of their digests; other files are passed over."""
        for file in self._storage.below(layout.POOL):
            digest = layout.pool_digest(file.path)
            if digest and file.kind == "file":
                yield digest, file

    def sweep(self, digests: Iterable[Digest]) -> int:
        """Remove those that no repository links to any more; bytes freed.

        NOTE: where links are refused every repository has a copy, and the
        pool's file has one link from the start; then it goes with the first
        delete, which costs a fetch later and no content.
        """
        freed = 0
        for digest in digests:
            pooled = self.file(digest)
            if pooled and pooled.links == 1:
                self._storage.unlink(pooled.path)
                freed += pooled.size
        return freed
