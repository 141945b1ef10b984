# SPDX-License-Identifier: Apache-2.0
"""What was fetched of blobs before it broke off, so that the next fetch gets the rest alone."""

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
    """The partial blobs of a tree: of at most ``limit`` bytes in all, each for so many ``days``.

    Each belongs to whoever makes the first fetch of its content: who has that
    lock may write, rename or remove the file, and nobody else.
    """

    def __init__(self, storage: Storage, pool: Pool, limit: int, days: int) -> None:
        self._storage = storage
        self._pool = pool
        self._limit = limit
        self._days = days

    def stage(
        self, fetch: Fetch, chunks: Iterable[bytes], digest: Digest, size: int | None
    ) -> Staged:
        """Stage content, verified and durable; what was kept of it is not fetched again.

        Keeps what has come where ``chunks`` fail.  Raises what they do,
        DigestMismatch, SizeMismatch and StorageError.
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

    def _keep(self, digest: Digest) -> None:
        """Leave what has come for the next fetch, if that is worth it."""
        path = layout.partial(digest)
        with contextlib.suppress(errors.StorageError):
            file = self._storage.file(path)
            if file and (not SMALLEST <= file.size <= self._limit or self._pool.holds(digest)):
                self._storage.discard(path)
        self._make_room(0)

    def _make_room(self, size: int) -> None:
        """Remove what is not to be kept when so many bytes are to come, as far as possible."""
        with contextlib.suppress(errors.StorageError):
            for file, reason in self.sweep(self._storage, size):
                LOG.info("%s: removed: %s", file.path, reason)

    def sweep(self, storage: Storage, to_come: int = 0) -> Iterator[tuple[File, str]]:
        """Remove from ``storage`` what is not to be kept any longer, and say why it went.

        What somebody is fetching stays.  ``to_come`` are bytes for which
        there is to be room within the limit.
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
        """Why a file is not to be kept, whatever else there is."""
        digest = layout.partial_digest(file.path)
        if digest is None or file.kind != "file":
            return "is no part of a tree"
        if self._pool.holds(digest):
            return "the rest of it has come since"
        if time.time() - file.modified >= self._days * _DAY:
            return f"the rest of it has not come for {self._days} days"
        return None

    def _remove(self, storage: Storage, file: File) -> bool:
        """Whether it has been removed: not while somebody fetches it, or has done so since."""
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
