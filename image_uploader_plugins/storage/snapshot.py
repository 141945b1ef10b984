# SPDX-License-Identifier: Apache-2.0
"""Dry runs that look at everything once, for checks of many small files."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path, PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.storage.beneath import READ
from image_uploader_plugins.storage.dry_run import DryRun
from image_uploader_plugins.storage.entries import File, entry, listing
from image_uploader_plugins.storage.folders import NotFound
from image_uploader_plugins.storage.places import Places

_LIMIT = 64 * 1024 * 1024


class Snapshot(DryRun):
    """A dry run that looks at each folder, file and link once, and remembers what it saw.

    For one thread and a short operation, best under the lock of those who
    write: what is changed meanwhile is not seen. It remembers no errors, so
    that what failed can be tried again.
    """

    def __init__(self, root: Path, places: Places) -> None:
        super().__init__(root, places)
        self._names: dict[PurePosixPath, dict[str, str]] = {}
        self._entries: dict[PurePosixPath, dict[str, File]] = {}
        self._targets: dict[PurePosixPath, str | None] = {}
        # By inode: all names of a file have the same content.
        self._contents: dict[tuple[int, int], bytes] = {}

    def names(self, path: PurePosixPath) -> dict[str, str]:
        known = self._names.get(path)
        if known is None:
            known = self._names[path] = self._look_into(path)
        return known

    def _look_into(self, path: PurePosixPath) -> dict[str, str]:
        """Return the names in a folder; remember the status of each, as most are asked for."""
        try:
            with self.folder(path) as folder:
                names = self.call(path, listing, folder)
                found = self._entries[path] = {}
                for name in names:
                    with contextlib.suppress(errors.StorageError):
                        found[name] = self._look_at(path / name, folder)
        except NotFound:
            return {}
        return names

    def entries(self, path: PurePosixPath) -> list[File]:
        names = sorted(self.names(path))
        found = self._entries.get(path, {})
        files = (found.get(name) or self.status(path / name) for name in names)
        return list(filter(None, files))

    def _look_at(self, path: PurePosixPath, folder: int) -> File:
        found = self.call(path, os.stat, path.name, dir_fd=folder, follow_symlinks=False)
        return entry(path, found)

    def status(self, path: PurePosixPath) -> File | None:
        folder, name = path.parent, path.name
        if not name:
            return super().status(path)
        if name not in self.names(folder):
            return None
        known = self._entries[folder]
        if name not in known:
            found = super().status(path)
            if found is None:
                return None
            known[name] = found
        return known[name]

    def link_target(self, path: PurePosixPath) -> str | None:
        if path not in self._targets:
            there = self.names(path.parent).get(path.name) == "link"
            self._targets[path] = super().link_target(path) if there else None
        return self._targets[path]

    def read(self, path: PurePosixPath, limit: int = _LIMIT) -> bytes:
        file = self.file(path)
        if file is None or file.size > limit:
            return super().read(path, limit)  # which tells what is wrong
        content = self._content(file)
        self._contents[file.inode] = content
        return content

    def holds(self, path: PurePosixPath, content: bytes) -> bool:
        file = self.file(path)
        return bool(file and file.size == len(content) and self._content(file) == content)

    def _content(self, file: File) -> bytes:
        known = self._contents.get(file.inode)
        return self._read_whole(file) if known is None else known

    def _read_whole(self, file: File) -> bytes:
        with self.folder(file.path.parent) as folder:
            descriptor = self.call(file.path, os.open, file.path.name, READ, dir_fd=folder)
        try:
            content = self.call(file.path, os.read, descriptor, file.size + 1)
            now = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if len(content) == now.st_size and stat.S_ISREG(now.st_mode):
            return content
        return super().read(file.path)
