"""Reading for those who serve a tree and write nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import BinaryIO

from image_uploader_plugins import errors
from image_uploader_plugins.storage.folders import READ, Folders, NotFound

# A link, a socket, a file in a folder's place, no link in a link's place.
_SOMETHING_ELSE = (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EINVAL)


class Reader(Folders):
    """The regular files and the links below ``root``; no link is ever followed.

    What is of another kind than a tree has at that place is NotFound.
    """

    def open(self, path: PurePosixPath) -> BinaryIO:
        """Open a file to read; raises NotFound, StorageDenied or another StorageError."""
        with _of_its_kind(), self.folder(path.parent) as folder:
            descriptor = self.call(path, os.open, path.name, READ, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise NotFound(self.root / path, "not a file")
        return os.fdopen(descriptor, "rb", buffering=0)

    def read(self, path: PurePosixPath) -> bytes:
        """Return a whole file; raises what open() does."""
        with self.open(path) as file:
            return file.read()

    def is_folder(self, path: PurePosixPath) -> bool:
        """Whether a folder is there, and no link to one; raises StorageError."""
        try:
            with _of_its_kind(), self.folder(path):
                return True
        except NotFound:
            return False

    def link(self, path: PurePosixPath) -> PurePosixPath:
        """Where a symbolic link says that it leads; raises as open() does."""
        with _of_its_kind(), self.folder(path.parent) as folder:
            return PurePosixPath(self.call(path, os.readlink, path.name, dir_fd=folder))


@contextlib.contextmanager
def _of_its_kind() -> Iterator[None]:
    try:
        yield
    except errors.StorageError as e:
        if e.errno in _SOMETHING_ELSE:
            raise NotFound(e.path, e.reason) from e
        raise
