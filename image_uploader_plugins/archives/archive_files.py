# SPDX-License-Identifier: Apache-2.0
"""The files of an archive by name, whether it is a directory or a tar.

Nothing is unpacked to where its name says, and nothing outside is ever read.
"""

from __future__ import annotations

import abc
import stat
from collections.abc import Hashable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from image_uploader_plugins import errors, strict_json
from image_uploader_plugins.archives.budget import Budget
from image_uploader_plugins.storage import File, Reader, mapped
from image_uploader_plugins.text import shown

CHUNK = 1024 * 1024
# A list of some 50,000 images.
LIST_LIMIT = 16 * 1024 * 1024

_NAME_LIMIT = 1024


class Files(abc.ABC):
    """The files of the archive at ``path``.

    All methods raise ArchiveInvalid or StorageError, naming archive and file,
    for a name that leads elsewhere and for what is no regular file.  Safe to
    use from several threads.  ``budget`` is for what is unpacked.
    """

    is_folder = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.budget = Budget(self.total)

    @abc.abstractmethod
    def total(self) -> int:
        """Return the bytes of the archive as it came; a file with several names counts once."""

    @abc.abstractmethod
    def size(self, name: str) -> int | None:
        """Return a file's bytes; None where there is no such file."""

    @abc.abstractmethod
    def identity(self, name: str) -> Hashable:
        """Return what is the same for two names of one file, which must be there."""

    @abc.abstractmethod
    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield a file's bytes, in chunks of up to 1 MiB."""

    @abc.abstractmethod
    def names(self) -> Iterator[str]:
        """Return the names of all regular files."""

    def close(self) -> None:  # noqa: B027 - a directory has nothing to close
        """Close what is open."""

    def read(self, name: str, limit: int) -> bytes:
        """Return a whole file of up to ``limit`` bytes; it must be there."""
        size = self.size(name)
        if size is None:
            raise self.invalid(name, "is missing")
        if size > limit:
            raise self.invalid(name, f"has {size} bytes, the limit is {limit}")
        return b"".join(self.chunks(name))

    def load(self, name: str, limit: int = LIST_LIMIT) -> Any:
        """Return the value of a JSON file, which all readers must understand alike."""
        content = self.read(name, limit)
        try:
            return strict_json.load_any(content, name)
        except errors.ManifestInvalid as e:
            raise errors.ArchiveInvalid(self.path, f"{name}: {e}") from e

    def invalid(self, name: str, reason: str) -> errors.ArchiveInvalid:
        """Return the error that says what is wrong with a file of the archive."""
        return errors.ArchiveInvalid(self.path, f"{shown(name)} {reason}")

    def clean(self, name: object) -> str:
        """Return the one spelling of a name that stands in the archive's own text."""
        found = clean(name)
        if found is None:
            raise self.invalid(str(name), "is not the name of a file in the archive")
        return found


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file to read; raises ArchiveInvalid for anything else.

    Opening a FIFO would wait for somebody to write into it.
    """
    if not stat.S_ISREG(mapped(path, path.stat).st_mode):
        raise errors.ArchiveInvalid(path, "is no file")
    return mapped(path, path.open, "rb")


def clean(name: object) -> str | None:
    """Return ``a/b`` for ``./a//b``; None for what is absolute, leads upwards or is no name."""
    if not isinstance(name, str) or len(name) > _NAME_LIMIT or not name.isprintable():
        return None
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return None
    return str(path)


class Folder(Files):
    """A directory, whose symbolic links are not followed."""

    is_folder = True

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._reader = Reader(path)

    def total(self) -> int:
        sizes = {f.inode: f.size for f in self._files()}
        return sum(sizes.values())

    def size(self, name: str) -> int | None:
        found = self._file(name)
        return found.size if found else None

    def identity(self, name: str) -> Hashable:
        return self._present(name).inode

    def chunks(self, name: str) -> Iterator[bytes]:
        self._present(name)
        return self._reader.chunks(PurePosixPath(self.clean(name)))

    def names(self) -> Iterator[str]:
        return (str(f.path) for f in self._files())

    def _files(self) -> Iterator[File]:
        return (f for f in self._reader.below(PurePosixPath()) if f.kind == "file")

    def _file(self, name: str) -> File | None:
        found = self._reader.status(PurePosixPath(self.clean(name)))
        if found and found.kind != "file":
            raise self.invalid(name, "is no regular file")
        return found

    def _present(self, name: str) -> File:
        found = self._file(name)
        if found is None:
            raise self.invalid(name, "is missing")
        return found
