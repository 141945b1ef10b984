# SPDX-License-Identifier: Apache-2.0
"""Entries of folders: their kinds and attributes."""

from __future__ import annotations

import operator
import os
import stat
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

# NOTE: ext4 has this folder in its root, for root alone; no name in a tree has a plus.
_FOUND_BY_FSCK = "lost+found"
_KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}


class File(NamedTuple):
    """The result of lstat(2) for a path, which need not be a file.

    ``place`` is the path as a text, relative to the root. ``kind`` is "file",
    "folder", "link" or "other", ``size`` in bytes, ``links`` the number of its
    names, ``inode`` device and inode number, ``mode`` the permission bits,
    ``modified_ns`` when it was written and ``changed_ns`` when it or its
    attributes changed, in nanoseconds since the epoch, ``uid`` its owner.
    """

    place: str
    kind: str
    size: int
    links: int
    inode: tuple[int, int]
    mode: int
    modified_ns: int
    changed_ns: int
    uid: int

    @property
    def path(self) -> PurePosixPath:
        """Return the path, relative to the root; it is made for each caller."""
        return PurePosixPath(self.place)

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return self.place.rpartition("/")[2]

    @property
    def modified(self) -> float:
        """Return when it was written, in seconds since the epoch."""
        return self.modified_ns / 1e9


HEAD = 16
"""The bytes of staged content that are remembered."""


class Staged(NamedTuple):
    """A complete and durable temporary file that is not published yet; ``size`` in bytes.

    ``head`` are the first bytes that came together, at most HEAD of them; empty
    where they are not known.
    """

    path: PurePosixPath
    size: int
    head: bytes = b""


def entry(place: str, found: os.stat_result) -> File:
    """Return the entry at a path, from the result of os.stat, which must not follow links."""
    return File(
        place,
        _KINDS.get(stat.S_IFMT(found.st_mode), "other"),
        found.st_size,
        found.st_nlink,
        (found.st_dev, found.st_ino),
        stat.S_IMODE(found.st_mode),
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_uid,
    )


def listing(folder: int) -> dict[str, str]:
    """Return the names in an open folder, each with its kind, but for "lost+found"."""
    with os.scandir(folder) as entries:
        return {e.name: _kind(e) for e in entries if e.name != _FOUND_BY_FSCK}


def is_empty(folder: int) -> bool:
    """Return whether an open folder has none of the names of listing()."""
    with os.scandir(folder) as entries:
        return all(e.name == _FOUND_BY_FSCK for e in entries)


def statuses(folder: int) -> dict[str, os.stat_result | None]:
    """Return the names of listing(), each with the result of lstat(2); None where that failed."""
    with os.scandir(folder) as entries:
        return {e.name: _status(e) for e in entries if e.name != _FOUND_BY_FSCK}


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


def statuses_of(folder: int, names: Iterable[str]) -> dict[str, os.stat_result]:
    """Return those of the names that are in an open folder, each with the result of lstat(2)."""
    found = {}
    for name in names:
        try:
            found[name] = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            continue
    return found


Identity = tuple[int, ...]
"""Device, inode, size, and the times of modification and change, in nanoseconds."""


_IDENTITY = operator.attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


def identity(found: os.stat_result) -> Identity:
    """Return what differs between a file and every other that replaces or changes it.

    NOTE: times are as fine as the clock of the kernel, some milliseconds.
    """
    return _IDENTITY(found)


def identities(folder: int, names: Iterable[str]) -> list[Identity]:
    """Return the identities of entries in an open folder, in the order of their names."""
    return [_IDENTITY(os.stat(name, dir_fd=folder, follow_symlinks=False)) for name in names]


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_file(follow_symlinks=False):
        return "file"
    if entry.is_symlink():
        return "link"
    return "folder" if entry.is_dir(follow_symlinks=False) else "other"
