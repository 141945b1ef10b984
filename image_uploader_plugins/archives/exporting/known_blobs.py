# SPDX-License-Identifier: Apache-2.0
"""The blobs that the other side has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.archives.archive_files import open_file
from image_uploader_plugins.archives.compression import HEAD, Compression, is_tar
from image_uploader_plugins.archives.opening import open_archive
from image_uploader_plugins.digest import Digest

_LINE_LIMIT = 1024  # characters


def known_blobs(paths: Iterable[Path]) -> frozenset[Digest]:
    """Return what archives hold, and lists name: text files with a digest on each line.

    Raises ArchiveInvalid or StorageError.
    """
    return frozenset(digest for path in paths for digest in _known(path))


def _known(path: Path) -> Iterable[Digest]:
    if not path.is_dir() and not _is_tar(path):
        return _listed(path)
    with contextlib.closing(open_archive(path, sparse=True)) as archive:
        return list(archive.digests())


def _is_tar(path: Path) -> bool:
    with open_file(path) as file:
        head = file.read(HEAD)
    return is_tar(head) or Compression.of(head) is not None


def _listed(path: Path) -> list[Digest]:
    found = []
    with open_file(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(_LINE_LIMIT), b""), 1):
            text = line.decode("utf-8", "replace").strip()
            if text and not text.startswith("#"):
                try:
                    found.append(Digest(text))
                except errors.InvalidReference as e:
                    raise errors.ArchiveInvalid(path, f"line {number}: {e}") from e
    return found
