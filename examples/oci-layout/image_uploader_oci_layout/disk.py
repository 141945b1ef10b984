# SPDX-License-Identifier: Apache-2.0
"""What the driver does to the disk: each error a StorageError, each file whole or not there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from image_uploader_plugins import errors

_KINDS = {
    errno.ENOSPC: errors.StorageFull,
    errno.EDQUOT: errors.StorageFull,
    errno.EACCES: errors.StorageDenied,
    errno.EPERM: errors.StorageDenied,
    errno.EROFS: errors.StorageDenied,
}


@contextlib.contextmanager
def errors_at(path: Path) -> Iterator[None]:
    """Turn an OSError into the StorageError that says what and where."""
    try:
        yield
    except OSError as e:
        kind = _KINDS.get(e.errno or 0, errors.StorageError)
        raise kind(path, os.strerror(e.errno) if e.errno else str(e)) from e


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at ``path``, among threads and processes.

    flock belongs to the open file, so each use opens the file anew.
    """
    with contextlib.ExitStack() as stack:
        with errors_at(path):
            make_folder(path.parent)
            file = stack.enter_context(path.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def staged(folder: Path, chunks: Iterable[bytes] = ()) -> Iterator[Path]:
    """Write a durable temporary file in ``folder``, which is gone when the block ends.

    What ``chunks`` raises is its own: only the writing is turned into a
    StorageError.
    """
    path = folder / uuid.uuid4().hex
    try:
        with contextlib.ExitStack() as stack:
            with errors_at(path):
                make_folder(folder)
                file = stack.enter_context(path.open("xb", buffering=0))
            for chunk in chunks:
                with errors_at(path):
                    _write_all(file.fileno(), chunk)
            with errors_at(path):
                os.fsync(file.fileno())
        yield path
    finally:
        with errors_at(path):
            path.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Give a staged file its name, at once and for good."""
    with errors_at(path):
        make_folder(path.parent)
        temporary.replace(path)
        _sync(path.parent)


def link(source: Path, path: Path, folder: Path) -> None:
    """Make ``path`` the same file as ``source``, whatever was there before."""
    temporary = folder / uuid.uuid4().hex
    try:
        with errors_at(source):
            make_folder(folder)
            os.link(source, temporary)
        publish(temporary, path)
    finally:
        # rename(2) leaves the source where both are links to one file already.
        with errors_at(temporary):
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, durably."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _sync(path.parent)


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
