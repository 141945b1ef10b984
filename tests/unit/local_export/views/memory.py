# SPDX-License-Identifier: Apache-2.0
"""A storage in memory, for the windows of one list."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from image_uploader_plugins.local_export.layout import PLACES
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.local_export.views.window_files import WindowFiles
from image_uploader_plugins.storage import File, Storage, Where

TOP, WHOLE = PurePosixPath("v2/.pages"), PurePosixPath("v2/whole")
State = dict[PurePosixPath, bytes | str]


class Memory(Storage):
    """A storage whose files and links are in memory; it records what is written and removed.

    ``observe`` is called after each change, with the path that changed.
    """

    numbers = itertools.count(1)

    def __init__(self, state: State | None = None) -> None:
        super().__init__(Path(f"/nowhere/{next(self.numbers)}"), PLACES)
        self.state: State = {}
        self.inodes: dict[PurePosixPath, int] = {}
        self.folders: dict[PurePosixPath, dict[str, str]] = {}
        self.written: list[PurePosixPath] = []
        self.removed: list[PurePosixPath] = []
        self.reads: list[PurePosixPath] = []
        self.observe: Callable[[PurePosixPath], object] = lambda _: None
        self.publish_all((state or {}).items())
        self.written.clear()

    def publish_all(self, wanted: Iterable[tuple[Where, bytes | str | None]]) -> None:
        for path, content in wanted:
            if content is None:
                self.unlink(path)
            else:
                self._put(PurePosixPath(path), content)

    def _put(self, path: PurePosixPath, content: bytes | str) -> None:
        self.state[path] = content
        self.inodes[path] = next(self.numbers)
        self.written.append(path)
        kind = "file"
        for place in (path, *path.parents[:-1]):
            self.folders.setdefault(place.parent, {})[place.name] = kind
            kind = "folder"
        self.observe(path)

    def status(self, path: Where) -> File | None:
        path = PurePosixPath(path)
        content = self.state.get(path)
        if content is None:
            there = bool(self.folders.get(path))
            return File(str(path), "folder", 0, 1, (1, 0), 0o755, 0, 0, 0) if there else None
        kind = "link" if isinstance(content, str) else "file"
        number = self.inodes[path]
        return File(str(path), kind, len(content), 1, (1, number), 0o644, number, number, 0)

    def link_target(self, path: Where) -> str | None:
        content = self.state.get(PurePosixPath(path))
        return content if isinstance(content, str) else None

    def read(self, path: Where, limit: int = 0) -> bytes:
        path = PurePosixPath(path)
        self.reads.append(path)
        content = self.state[path]
        assert isinstance(content, bytes)
        return content

    def names(self, path: Where) -> dict[str, str]:
        return dict(self.folders.get(PurePosixPath(path), {}))

    def unlink(self, path: Where, *, durable: bool = False) -> bool:
        path = PurePosixPath(path)
        self.removed.append(path)
        removed = path
        found = self.state.pop(path, None) is not None
        while found and path.name:
            del self.folders[path.parent][path.name]
            found = not self.folders[path.parent]  # an empty folder is none
            path = path.parent
        self.observe(removed)
        return True

    def remove_empty(self, path: Where) -> bool:
        return PurePosixPath(path) not in self.folders


def files(storage: Storage) -> WindowFiles:
    return WindowFiles(storage, TOP, WHOLE, documents.catalog(()))
