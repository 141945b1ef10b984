# SPDX-License-Identifier: Apache-2.0
"""The check whether a file still hashes to its name, read twice before it says no."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.storage import Storage, failed


def _ignore(_: int) -> None:
    """Do nothing with the number of bytes."""


def wrong_digest(
    storage: Storage,
    path: PurePosixPath,
    digest: Digest,
    passed: Callable[[int], object] = _ignore,
) -> Digest | None:
    """Return what the file at ``path`` hashes to instead of ``digest``; None if it is intact.

    The whole file is read twice before the answer is a digest: one wrong
    reading may be an error of the reader, and the caller is about to replace or
    remove the file. A reading that fails is tried again, and then its
    StorageError is raised; NotFound where there is no file. ``passed`` is
    called with the bytes read.
    """
    if _hashed(storage, path, digest, passed) == digest:
        return None
    actual = _hashed(storage, path, digest, passed)
    return None if actual == digest else actual


def _hashed(
    storage: Storage, path: PurePosixPath, digest: Digest, passed: Callable[[int], object]
) -> Digest:
    try:
        return _read(storage, path, digest, passed)
    except errors.StorageError as e:
        if not failed(e):
            raise
    return _read(storage, path, digest, passed)


def _read(
    storage: Storage, path: PurePosixPath, digest: Digest, passed: Callable[[int], object]
) -> Digest:
    return digest.of_same_kind(_counted(storage.chunks(path), passed))


def _counted(chunks: Iterable[bytes], passed: Callable[[int], object]) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        passed(len(chunk))
