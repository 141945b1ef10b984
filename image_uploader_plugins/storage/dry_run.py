"""What would be changed, found out by doing it without changing anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NoReturn

from image_uploader_plugins.storage.places import Places
from image_uploader_plugins.storage.storage import Storage

MISSING = "is missing"
DIFFERENT = "is not what it should be"
SURPLUS = "should not be there"


@dataclasses.dataclass(frozen=True, order=True)
class Change:
    """A path, and what is wrong with it for whoever would change it."""

    path: PurePosixPath
    reason: str


class DryRun(Storage):
    """A storage that notes what it is asked to change.

    What it says of the disk stays true throughout: changes that follow from
    other changes are not seen.
    """

    def __init__(self, root: Path, places: Places) -> None:
        super().__init__(root, places)
        self.changes: set[Change] = set()

    def write(self, path: PurePosixPath, content: bytes) -> bool:
        return not self.holds(path, content) and self._note(path)

    def symlink(self, path: PurePosixPath, target: str) -> bool:
        return self.link_target(path) != target and self._note(path)

    def publish_all(self, wanted: Iterable[tuple[PurePosixPath, bytes | str]]) -> None:
        for path, content in wanted:
            if isinstance(content, str):
                self.symlink(path, content)
            else:
                self.write(path, content)

    def link(self, source: PurePosixPath, path: PurePosixPath) -> None:
        self._note(path)

    def unlink(self, path: PurePosixPath, *, durable: bool = False) -> bool:
        found = self.status(path) is not None
        if found:
            self.changes.add(Change(path, SURPLUS))
        return found

    def remove_empty(self, path: PurePosixPath) -> bool:
        return not self.names(path)

    def sync(self, *folders: PurePosixPath) -> None:
        """There is nothing to make durable."""

    def _note(self, path: PurePosixPath) -> bool:
        self.changes.add(Change(path, DIFFERENT if self.status(path) else MISSING))
        return True

    def _walk_creating(self, path: PurePosixPath) -> NoReturn:
        raise AssertionError(f"a rehearsal would write {path}")
