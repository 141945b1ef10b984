# SPDX-License-Identifier: Apache-2.0
"""Whether a file still is what its name says, asked often enough to believe a no."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.storage import Storage, failed


def _ignore(_: int) -> None:
    """Nobody wants to know."""


def wrong_digest(
    storage: Storage,
    path: PurePosixPath,
    digest: Digest,
    passed: Callable[[int], object] = _ignore,
) -> Digest | None:
    """Return what the file at ``path`` hashes to instead of ``digest``; None if it is intact.

    An answer other than None comes from reading the whole file twice: one
    wrong reading may be the reader's, and whoever asks is about to replace or
    remove the file.  A reading that fails is no answer at all: it is tried
    again, and its StorageError raised; NotFound where there is no file.
    ``passed`` is told of the bytes read.
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
    stream = VerifiedStream(storage.chunks(path), digest)
    with contextlib.suppress(errors.DigestMismatch):
        for chunk in stream:
            passed(len(chunk))
    return stream.digest
