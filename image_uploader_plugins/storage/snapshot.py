# SPDX-License-Identifier: Apache-2.0
"""Dry runs that look at everything once, for checks of many small files."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.storage import entries
from image_uploader_plugins.storage.beneath import READ
from image_uploader_plugins.storage.dry_run import DryRun
from image_uploader_plugins.storage.entries import File, entry
from image_uploader_plugins.storage.folders import TOP, NotFound, Where, split
from image_uploader_plugins.storage.places import Places

_LIMIT = 64 * 1024 * 1024
_SMALL = 16 * 1024  # bytes
_ROOM = 16 * 1024 * 1024  # bytes of small files that are read before they are asked for

_name = operator.itemgetter(0)


class Snapshot(DryRun):
    """A dry run that looks at each folder, file and link once, and remembers what it saw.

    For one thread and a short operation, best under the lock of those who
    write: what is changed meanwhile is not seen. It remembers no errors, so
    that what failed can be tried again.

    With a folder, its links and small files are read, too, since most are asked
    for, but not in the folders ``unread``.
    """

    def __init__(self, root: Path, places: Places, unread: Collection[PurePosixPath] = ()) -> None:
        super().__init__(root, places)
        self.forget(unread)

    def forget(self, unread: Collection[PurePosixPath] = ()) -> None:
        """Forget what it saw, and the changes; look at everything anew from now on."""
        self.changes.clear()
        self._unread = set(map(str, unread))
        self._room = _ROOM
        # By folder, as paths are slow keys.
        self._names: dict[str, dict[str, str]] = {}
        self._entries: dict[str, dict[str, File]] = {}
        self._sorted: dict[str, list[File]] = {}
        self._targets: dict[str, str | None] = {}
        # By inode: all names of a file have the same content.
        self._contents: dict[tuple[int, int], bytes] = {}
        # What could not be read early, so that it is read by the name that is asked for.
        self._failed: set[tuple[int, int]] = set()

    def names(self, path: Where) -> dict[str, str]:
        return self._names_in(str(path))

    def _names_in(self, folder: str) -> dict[str, str]:
        known = self._names.get(folder)
        if known is None:
            known = self._names[folder] = {} if self._is_absent(folder) else self._look_into(folder)
        return known

    def _is_absent(self, folder: str) -> bool:
        """Return whether the folder around it was looked into and has nothing of that name."""
        parent, name = split(folder)
        names = self._names.get(parent)
        return names is not None and name not in names and folder != TOP

    def _look_into(self, text: str) -> dict[str, str]:
        """Return the names in a folder; remember the status of each, as most are asked for."""
        try:
            with self.folder(text) as folder:
                statuses = self.call(text, entries.statuses, folder)
                start = "" if text == TOP else f"{text}/"
                ordered = sorted(statuses.items(), key=_name)
                found = {name: entry(start + name, status) for name, status in ordered if status}
                self._entries[text] = found
                if text not in self._unread:
                    for name, file in found.items():
                        if file.kind != "folder":
                            self._read_early(file, name, folder)
                if len(found) != len(statuses):
                    return self.call(text, entries.listing, folder)
        except NotFound:
            return {}
        self._sorted[text] = [*found.values()]
        return {name: file.kind for name, file in found.items()}

    def _read_early(self, file: File, name: str, folder: int) -> None:
        """Read a link or a small file in an open folder; what fails is left for later."""
        try:
            if file.kind == "link":
                self._targets[file.place] = self.call(file.place, os.readlink, name, dir_fd=folder)
            elif file.kind == "file" and file.size <= _SMALL and self._room > 0:
                self._read_small(file, name, folder)
        except errors.StorageError:
            self._failed.add(file.inode)

    def _read_small(self, file: File, name: str, folder: int) -> None:
        if file.inode in self._contents or file.inode in self._failed:
            return
        descriptor = self.call(file.place, os.open, name, READ, dir_fd=folder)
        try:
            content = self.call(file.place, os.read, descriptor, file.size + 1)
        finally:
            os.close(descriptor)
        if len(content) == file.size:
            self._contents[file.inode] = content
            self._room -= len(content)

    def seen(self, file: File) -> bytes | str | None:
        """Return the content of a file or the target of a link; None unless it was read early."""
        if file.kind == "link":
            return self._targets.get(file.place)
        return self._contents.get(file.inode)

    def entries(self, path: PurePosixPath) -> list[File]:
        return self._entries_in(str(path))

    def _entries_in(self, text: str) -> list[File]:
        names = self._names_in(text)
        if text in self._sorted:
            return self._sorted[text]
        path = PurePosixPath(text)
        return list(filter(None, (self.status(path / name) for name in sorted(names))))

    def below(
        self, path: PurePosixPath, enters: Callable[[File], bool] = lambda _: True
    ) -> Iterator[File]:
        return iter(self.inside(str(path), enters))

    def inside(self, folder: str, enters: Callable[[File], bool] = lambda _: True) -> list[File]:
        """Return what below() yields, for a path as a text."""
        found = []
        for file in self._entries_in(folder):
            found.append(file)
            if file.kind == "folder" and enters(file):
                found += self.inside(file.place, enters)
        return found

    def itself(self, path: PurePosixPath) -> File:
        """Return the entry of a folder, without a look at the folder that it is in."""
        with self.folder(path) as folder:
            return entry(str(path), self.call(path, os.fstat, folder))

    def status(self, path: Where) -> File | None:
        text = str(path)
        if text == TOP:
            return super().status(path)
        folder, name = split(text)
        if name not in self._names_in(folder):
            return None
        known = self._entries[folder]
        if name not in known:
            found = super().status(path)
            if found is None:
                return None
            known[name] = found
        return known[name]

    def lone_file(self, path: Where) -> File | None:
        return self.file(path)

    def files(self, path: Where, names: Iterable[str]) -> dict[str, File]:
        found = {name: self.file(f"{path}/{name}") for name in names}
        return {name: file for name, file in found.items() if file}

    def link_target(self, path: Where) -> str | None:
        text = str(path)
        if text not in self._targets:
            folder, name = split(text)
            there = self._names_in(folder).get(name) == "link"
            self._targets[text] = super().link_target(path) if there else None
        return self._targets[text]

    def read(self, path: Where, limit: int = _LIMIT) -> bytes:
        file = self.file(path)
        if file is None or file.size > limit:
            return super().read(path, limit)  # which tells what is wrong
        content = self._content(path, file)
        self._contents[file.inode] = content
        return content

    def holds(self, path: Where, content: bytes) -> bool:
        file = self.file(path)
        return bool(file and file.size == len(content) and self._content(path, file) == content)

    def _content(self, path: Where, file: File) -> bytes:
        known = self._contents.get(file.inode)
        return super().read(path) if known is None else known
