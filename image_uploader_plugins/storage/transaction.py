# SPDX-License-Identifier: Apache-2.0
"""Changes that are collected, staged and flushed together, and then published in order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from image_uploader_plugins.storage.entries import File
from image_uploader_plugins.storage.writer import Writer


class _Change(NamedTuple):
    """A change of one path: what is staged for it, or what is done with it; neither is a flush."""

    path: PurePosixPath
    content: bytes | str | None = None
    action: Callable[[], object] | None = None


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
        self._changes: list[_Change] = []

    def write(self, path: PurePosixPath, content: bytes) -> bool:
        if self.holds(path, content):
            return False
        self._changes.append(_Change(path, content))
        return True

    def symlink(self, path: PurePosixPath, target: str) -> bool:
        if self.link_target(path) == target:
            return False
        self._changes.append(_Change(path, target))
        return True

    def mark(self, path: PurePosixPath, content: bytes) -> None:
        """Make a file in place at once, before anything is published."""
        self._storage.mark(path, content)

    def publish_all(self, wanted: Iterable[tuple[PurePosixPath, bytes | str]]) -> None:
        self._changes += [_Change(path, content) for path, content in wanted]

    def afterwards(self, action: Callable[[], object]) -> None:
        self._do(PurePosixPath(), action)

    def link(self, source: PurePosixPath, path: PurePosixPath) -> None:
        self._do(path, lambda: self._storage.link(source, path))

    def unlink(self, path: PurePosixPath) -> bool:
        found = self.status(path) is not None
        if found:
            self._do(path, lambda: self._storage.unlink(path))
        return found

    def drop(self, path: PurePosixPath) -> bool:
        return self.unlink(path)

    def remove_empty(self, path: PurePosixPath) -> bool:
        self._do(path, lambda: self._storage.remove_empty(path))
        return not self.names(path)

    def remove_upward(self, path: PurePosixPath, top: PurePosixPath) -> None:
        self._do(path, lambda: self._storage.remove_upward(path, top))

    def remove_tree(self, path: PurePosixPath) -> None:
        self._do(path, lambda: self._storage.remove_tree(path))

    def remove(self, file: File) -> None:
        """Remove at once what is in the way of a change."""
        self._storage.remove(file)

    def sync(self) -> None:
        """Have all changes so far be durable before the next ones are published."""
        if self._changes and self._changes[-1] != _Change(PurePosixPath()):
            self._changes.append(_Change(PurePosixPath()))

    def _do(self, path: PurePosixPath, action: Callable[[], object]) -> None:
        self._changes.append(_Change(path, action=action))

    def commit(self) -> None:
        """Publish all changes; all are durable when this returns."""
        changes, self._changes = self._changes, []
        contents = [change.content for change in changes if change.content is not None]
        with self._storage.holding(), self._storage.staged_all(contents) as staged:
            rest = iter(staged)
            for change in changes:
                if change.content is not None:
                    self._storage.publish(next(rest), change.path)
                elif change.action:
                    change.action()
                else:
                    self._storage.sync()
            self._storage.sync()


@contextlib.contextmanager
def transaction(storage: Writer) -> Iterator[Transaction]:
    """Yield a transaction that is committed when the block ends, unless it fails."""
    changes = Transaction(storage)
    yield changes
    changes.commit()
