# SPDX-License-Identifier: Apache-2.0
"""A storage for those who only look."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from image_uploader_plugins.storage.dry_run import DryRun
from image_uploader_plugins.storage.entries import File
from image_uploader_plugins.storage.locks import Lock


class Looking(DryRun):
    """A storage that needs no rights but to read, and makes nothing, not even a lock.

    Its locks keep writers out where that is possible: where the file of the
    lock is there, as every writer leaves it, and may be read. Several who look
    share them.
    """

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[Lock]:
        with self._locks.shared(name) as lock:
            yield lock or Lock()

    @contextlib.contextmanager
    def try_lock(self, name: str, *, transient: bool = False) -> Iterator[Lock | None]:
        with self._locks.shared(name, waiting=False) as lock:
            yield lock

    def can_link(self, source: File, target: File) -> bool:
        # Nothing is tried: a copy that was made here shows that a link was refused.
        is_copy = target.kind == "file" and self.is_copy(source, target)
        return self._mount(source) == self._mount(target) and not is_copy
