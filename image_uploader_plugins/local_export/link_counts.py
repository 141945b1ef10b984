# SPDX-License-Identifier: Apache-2.0
"""The bytes that the disk gets back when links to files are removed."""

from __future__ import annotations

import collections

from image_uploader_plugins.storage import File


class LinkCounts:
    """The links that were removed, or would be, since the files were looked at."""

    def __init__(self) -> None:
        self._gone: collections.Counter[tuple[int, int]] = collections.Counter()

    def copy(self) -> LinkCounts:
        """Return the same counts, to be changed by themselves."""
        found = LinkCounts()
        found._gone = self._gone.copy()
        return found

    def remove(self, file: File) -> int:
        """Count one link to a file as gone; return the file's bytes if it was the last, else 0."""
        self._gone[file.inode] += 1
        return file.size if self._gone[file.inode] == file.links else 0

    def is_last(self, file: File) -> bool:
        """Return whether all links to a file but one have gone."""
        return file.links - self._gone[file.inode] == 1
