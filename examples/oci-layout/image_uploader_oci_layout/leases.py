# SPDX-License-Identifier: Apache-2.0
"""What protects a blob that was uploaded and that no manifest names yet."""

from __future__ import annotations

import collections
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from image_uploader_oci_layout import disk
from image_uploader_plugins.digest import Digest


class Leases:
    """A file for each lease, so that nobody's goes with another's.

    They count for ``timeout`` seconds: a process that was killed gives none
    back.
    """

    def __init__(self, folder: Path, timeout: int) -> None:
        self._folder = folder
        self._timeout = timeout
        self._ours: dict[tuple[str, Digest], list[Path]] = collections.defaultdict(list)
        self._mutex = threading.Lock()

    def take(self, repository: str, digest: Digest) -> None:
        path = self._folder / repository / f"{digest}.{uuid.uuid4().hex}"
        with disk.errors_at(path):
            disk.make_folder(path.parent)
            path.touch()
        with self._mutex:
            self._ours[repository, digest].append(path)

    def drop(self, repository: str, digests: Iterable[Digest]) -> None:
        """One of ours for each of ``digests``, where there is one."""
        for digest in digests:
            with self._mutex:
                ours = self._ours[repository, digest]
                path = ours.pop() if ours else None
            if path:
                with disk.errors_at(path):
                    path.unlink(missing_ok=True)

    def drop_all(self) -> None:
        with self._mutex:
            paths = [path for ours in self._ours.values() for path in ours]
            self._ours.clear()
        for path in paths:
            with disk.errors_at(path):
                path.unlink(missing_ok=True)

    def live(self, repository: str) -> set[Digest]:
        """Return the blobs of a repository that uploads hold, and remove leases that ran out."""
        found = set()
        for path in (self._folder / repository).glob("*"):
            with disk.errors_at(path):
                if time.time() - path.stat().st_mtime < self._timeout:
                    found.add(Digest(path.stem))
                else:
                    path.unlink()
        return found
