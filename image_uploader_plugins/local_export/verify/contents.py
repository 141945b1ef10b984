"""What files hash to, each read once."""

from __future__ import annotations

from collections.abc import Iterable

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.local_export import parallel
from image_uploader_plugins.local_export.storage import File, NotFound, Storage
from image_uploader_plugins.local_export.verify.finding import Remedy
from image_uploader_plugins.meter import Meter

_Key = tuple[tuple[int, int], int, float]


class Contents:
    """Remembers inodes: all links to a file are read with the first of them."""

    def __init__(self, storage: Storage, meter: Meter) -> None:
        self._storage = storage
        self._meter = meter
        self._problems: dict[tuple[_Key, Digest], str | None] = {}
        self._whole: set[Digest] = set()
        self.bytes_read = 0

    def read(self, files: Iterable[tuple[Digest, File]]) -> None:
        """Hash what has not been hashed, without a lock; files may go meanwhile."""
        new = {(_key(file), digest): file for digest, file in files}
        wanted = [(key[1], file) for key, file in new.items() if key not in self._problems]
        self._meter.expect(sum(file.size for _, file in wanted))
        for (digest, file), problem in parallel.each(self._read, wanted):
            self._note(digest, file, problem)

    def problem(self, digest: Digest, file: File) -> str | None:
        """Why a file cannot be what ``digest`` names; reads it now if it is new."""
        key = (_key(file), digest)
        if key not in self._problems:
            self._note(digest, file, self._read((digest, file)))
        return self._problems[key]

    def is_damaged(self, digest: Digest, file: File) -> bool:
        """Whether something is wrong with a file that has been read."""
        return self._problems.get((_key(file), digest)) is not None

    def remedy(self, digest: Digest) -> Remedy:
        """What helps where a blob is damaged or missing: an intact copy, seen anywhere."""
        return Remedy.REPAIR if digest in self._whole else Remedy.FETCH

    def _note(self, digest: Digest, file: File, problem: str | None) -> None:
        self._problems[_key(file), digest] = problem
        self.bytes_read += file.size
        if problem is None:
            self._whole.add(digest)

    def _read(self, item: tuple[Digest, File]) -> str | None:
        digest, file = item
        try:
            for chunk in VerifiedStream(self._storage.chunks(file.path), digest):
                self._meter.add(len(chunk))
        except errors.DigestMismatch as e:
            return f"its content hashes to {e.actual}"
        except NotFound:
            return None  # deleted meanwhile; whether it is missed is another question
        except errors.StorageDenied:
            raise
        except errors.StorageError as e:
            return f"cannot be read: {e.reason}"
        return None


def _key(file: File) -> _Key:
    return file.inode, file.size, file.modified
