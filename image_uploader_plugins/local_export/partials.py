# SPDX-License-Identifier: Apache-2.0
"""The first bytes of blobs whose fetch broke off, kept so that the next fetch gets the rest."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.driver import Content
from image_uploader_plugins.local_export import fetches, layout
from image_uploader_plugins.local_export.fetches import Fetch
from image_uploader_plugins.local_export.pool import Pool
from image_uploader_plugins.storage import File, Growing, Staged, Storage, growing

LOG = logging.getLogger(__name__)

SMALLEST = 1024 * 1024
"""Bytes below which nothing is kept: fetching them again is as fast."""

_DAY = 24 * 60 * 60  # seconds


class Partials:
    """The partial blobs of a tree: at most ``limit`` bytes in all, each for ``days`` days.

    Only the first fetch of a content, which holds that lock, may write, rename
    or remove its partial file.
    """

    def __init__(self, storage: Storage, pool: Pool, limit: int, days: int) -> None:
        self._storage = storage
        self._pool = pool
        self._limit = limit
        self._days = days
        self._has_folder = False

    def stage(
        self, fetch: Fetch, chunks: Iterable[bytes], digest: Digest, size: int | None
    ) -> Staged:
        """Stage content, verified and durable; do not fetch the kept part of it again.

        Where ``chunks`` fail, the part that has come is kept. Raises the errors
        of ``chunks``, DigestMismatch, SizeMismatch and StorageError.
        """
        try:
            if isinstance(chunks, Content) and fetch.first and self._is_worth_keeping(size):
                return self._resume(fetch, chunks, digest, size)
            return self._storage.stage(fetch.counted(VerifiedStream(chunks, digest, size)))
        except errors.StorageFull:
            self._make_room(self._limit)
            raise

    def _is_worth_keeping(self, size: int | None) -> bool:
        return SMALLEST <= (SMALLEST if size is None else size) <= self._limit

    def _resume(self, fetch: Fetch, content: Content, digest: Digest, size: int | None) -> Staged:
        path = layout.partial(digest)
        there = self._storage.file(path)
        self._make_room(max(0, (size or 0) - (there.size if there else 0)))
        begun = 0
        self._make_folder()
        try:
            with growing(self._storage, path, self._limit if size is None else size) as file:
                begun = file.begun
                stream = VerifiedStream(_whole(file, content), digest, size)
                for chunk in fetch.counted(stream):
                    if stream.size > begun:
                        file.write(chunk)
                return file.finish()
        except errors.StorageError:
            self._storage.discard(path)
            raise
        except errors.ContentMismatch as e:
            self._storage.discard(path)
            if not begun:
                raise
            LOG.warning("fetched from the start, what was kept of it does not fit: %s", e)
        except BaseException:
            self._keep(digest)
            raise
        return self._resume(fetch, content, digest, size)

    def _make_folder(self) -> None:
        """Make the folder of partial blobs durable, once in a process."""
        if not self._has_folder:
            with self._storage.folder(layout.PARTIAL, create=True):
                self._storage.sync()
            self._has_folder = True

    def _keep(self, digest: Digest) -> None:
        """Keep the part that has come for the next fetch, unless that is of no use."""
        path = layout.partial(digest)
        with contextlib.suppress(errors.StorageError):
            file = self._storage.file(path)
            if file and (not SMALLEST <= file.size <= self._limit or self._pool.holds(digest)):
                self._storage.discard(path)
        self._make_room(0)

    def _make_room(self, size: int) -> None:
        """Remove files, as far as possible, so that ``size`` more bytes fit within the limit."""
        with contextlib.suppress(errors.StorageError):
            for file, reason in self.sweep(self._storage, size):
                LOG.info("%s: removed: %s", file.path, reason)

    def sweep(self, storage: Storage, to_come: int = 0) -> Iterator[tuple[File, str]]:
        """Remove from ``storage`` the files that are not to be kept; yield each with the reason.

        A file that is being fetched stays. ``to_come`` is the number of bytes
        for which there must be room within the limit.
        """
        files = sorted(self._files(), key=lambda file: file.modified)
        excess = sum(file.size for file in files) + to_come - self._limit
        for file in files:
            reason = self._why_not(file)
            if reason is None and excess > 0:
                reason = f"more than {self._limit} bytes are kept of blobs"
            if reason and self._remove(storage, file):
                excess -= file.size
                yield file, reason

    def _files(self) -> Iterator[File]:
        for name in self._storage.names(layout.PARTIAL):
            file = self._storage.status(layout.PARTIAL / name)
            if file:
                yield file

    def _why_not(self, file: File) -> str | None:
        """Return why a file is not to be kept, whatever other files there are; None if it is."""
        digest = layout.partial_digest(file.path)
        if digest is None or file.kind != "file":
            return "is no part of a tree"
        if self._pool.holds(digest):
            return "the rest of it has come since"
        if time.time() - file.modified >= self._days * _DAY:
            return f"the rest of it has not come for {self._days} days"
        return None

    def _remove(self, storage: Storage, file: File) -> bool:
        """Remove a file unless it is being fetched or has changed; return whether that was done."""
        digest = layout.partial_digest(file.path)
        if digest is None:
            storage.remove(file)
            return True
        with self._storage.try_lock(fetches.lock_name(digest), transient=True) as lock:
            if not lock or self._storage.status(file.path) != file:
                return False
            storage.remove(file)
            return True


def _whole(file: Growing, content: Content) -> Iterator[bytes]:
    yield from file.chunks()
    yield from content.start_at(file.begun)
