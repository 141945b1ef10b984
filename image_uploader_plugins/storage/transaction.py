# SPDX-License-Identifier: Apache-2.0
"""Changes that are collected, staged and flushed together, and then published in order."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from image_uploader_plugins.storage.entries import File
from image_uploader_plugins.storage.folders import Where
from image_uploader_plugins.storage.writer import Writer


class _Entry(NamedTuple):
    """A file (bytes) or a symbolic link (str, the target) that is staged for a path."""

    path: Where
    content: bytes | str


class Transaction(Writer):
    """A writer whose changes of ``storage`` wait for commit(); what it reads is there already.

    commit() first stages all files, and makes their content durable at once. A
    full disk is noticed then, before anything is published. Then it publishes
    all changes in the order in which they were asked for. What sync() was
    called after is durable before anything that was asked for later is
    published.
    """

    def __init__(self, storage: Writer) -> None:
        super().__init__(storage.root, storage.places, owned=storage.is_owned, beside=storage)
        self._storage = storage
        self._changes: list[_Entry | Callable[[], object]] = []

    def write(self, path: Where, content: bytes) -> bool:
        if self.holds(path, content):
            return False
        self._changes.append(_Entry(path, content))
        return True

    def symlink(self, path: Where, target: str) -> bool:
        if self.link_target(path) == target:
            return False
        self._changes.append(_Entry(path, target))
        return True

    def mark(self, path: Where, content: bytes) -> None:
        """Make a file in place at once, before anything is published."""
        self._storage.mark(path, content)

    def publish_all(self, wanted: Iterable[tuple[Where, bytes | str | None]]) -> None:
        for path, content in wanted:
            if content is None:
                self._changes.append(functools.partial(self._storage.unlink, path))
            else:
                self._changes.append(_Entry(path, content))

    def afterwards(self, action: Callable[[], object]) -> None:
        self._changes.append(action)

    def link(self, source: Where, path: Where) -> None:
        self._changes.append(lambda: self._storage.link(source, path))

    def unlink(self, path: Where) -> bool:
        found = self.status(path) is not None
        if found:
            self._changes.append(lambda: self._storage.unlink(path))
        return found

    def drop(self, path: Where) -> bool:
        return self.unlink(path)

    def remove_empty(self, path: Where) -> bool:
        """Remove a folder with the other changes, if it is empty then; it is not gone before."""
        self._changes.append(lambda: self._storage.remove_empty(path))
        return False

    def remove_upward(self, path: PurePosixPath, top: PurePosixPath) -> None:
        self._changes.append(lambda: self._storage.remove_upward(path, top))

    def remove_tree(self, path: PurePosixPath) -> None:
        self._changes.append(lambda: self._storage.remove_tree(path))

    def remove(self, file: File) -> None:
        """Remove at once what is in the way of a change."""
        self._storage.remove(file)

    def sync(self) -> None:
        """Have all changes so far be durable before the next ones are published."""
        self._changes.append(self._storage.sync)

    def commit(self) -> None:
        """Publish all changes; all are durable after the next sync() of the storage."""
        changes, self._changes = self._changes, []
        contents = [change.content for change in changes if isinstance(change, _Entry)]
        with self._storage.holding(), self._storage.staged_all(contents) as publish_next:
            for change in changes:
                if isinstance(change, _Entry):
                    publish_next(change.path)
                else:
                    change()


@contextlib.contextmanager
def transaction(storage: Writer) -> Iterator[Transaction]:
    """Yield a transaction that is committed when the block ends, unless it fails."""
    changes = Transaction(storage)
    yield changes
    changes.commit()
