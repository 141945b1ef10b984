# SPDX-License-Identifier: Apache-2.0
"""A tree as values: names, content, modes and which names are one file."""

from __future__ import annotations

import collections
import dataclasses
import functools
import os
import re
from collections.abc import Hashable, Iterator
from pathlib import Path

LOCKS = ".local-export/locks/"

# Staging folders, temporary names and leases are called anew each time.
_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


def us() -> tuple[int, int]:
    return os.geteuid(), os.getegid()


@dataclasses.dataclass(frozen=True)
class Entry:
    """A "folder", "file" or "link"; ``content`` is a link's target, ``inode`` tells files apart.

    ``owner`` is a user and a group.
    """

    kind: str
    mode: int
    content: bytes = b""
    inode: Hashable = None
    owner: tuple[int, int] = dataclasses.field(default_factory=us)

    @property
    def known(self) -> tuple[object, ...]:
        """All but the inode."""
        return self.kind, self.mode, self.content, self.owner


def _whose(status: os.stat_result) -> tuple[int, int]:
    return status.st_uid, status.st_gid


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Everything below a root by its path, a folder before what it holds; the root is ".".

    Lock files are left out: they are empty, and stay.
    """

    entries: dict[str, Entry]

    def below(self, folder: str) -> Iterator[tuple[str, Entry]]:
        """What is below a folder, by its path from there."""
        start = f"{folder}/"
        for path, entry in self.entries.items():
            if path.startswith(start):
                yield path.removeprefix(start), entry

    @functools.cached_property
    def normal(self) -> frozenset[tuple[object, ...]]:
        """The same for the same tree, whatever its inodes and random names are."""
        names = {path: _UUID.sub("*", path) for path in self.entries}
        groups = collections.defaultdict(list)
        for path, entry in self.entries.items():
            if entry.kind == "file":
                groups[entry.inode].append(names[path])
        shared = {inode: tuple(sorted(paths)) for inode, paths in groups.items() if paths[1:]}
        lines = collections.Counter(
            (names[path], *entry.known, shared.get(entry.inode))
            for path, entry in self.entries.items()
        )
        return frozenset((*line, count) for line, count in lines.items())

    def state(self, *folders: str) -> frozenset[tuple[object, ...]]:
        """``normal``, of these folders alone and of the links among them."""
        starts = tuple(f"{folder}/" for folder in folders)
        return Snapshot({p: e for p, e in self.entries.items() if p.startswith(starts)}).normal


def take(root: Path) -> Snapshot:
    entries: dict[str, Entry] = {}
    if root.exists():
        status = root.stat()
        entries["."] = Entry("folder", status.st_mode & 0o7777, owner=_whose(status))
        _take(str(root), "", entries)
    return Snapshot(entries)


def _take(folder: str, start: str, entries: dict[str, Entry]) -> None:
    with os.scandir(folder) as found:
        for item in sorted(found, key=lambda item: item.name):
            path = start + item.name
            status = item.stat(follow_symlinks=False)
            whose = _whose(status)
            if item.is_symlink():
                target = os.fsencode(Path(item.path).readlink())
                entries[path] = Entry("link", 0o777, target, owner=whose)
            elif item.is_dir():
                entries[path] = Entry("folder", status.st_mode & 0o7777, owner=whose)
                _take(item.path, path + "/", entries)
            elif not path.startswith(LOCKS):
                content = Path(item.path).read_bytes()
                mode = status.st_mode & 0o7777
                entries[path] = Entry("file", mode, content, status.st_ino, whose)


def lay(snapshot: Snapshot, root: Path) -> None:
    """Make ``root``, which is not there, what a snapshot says."""
    made: dict[Hashable, str] = {}
    for path, entry in snapshot.entries.items():
        name = f"{root}/{path}"
        if entry.kind == "folder":
            os.mkdir(name if path != "." else root)  # noqa: PTH102
            os.chmod(name, entry.mode)  # noqa: PTH101
        elif entry.kind == "link":
            Path(name).symlink_to(os.fsdecode(entry.content))
        elif entry.inode in made:
            os.link(made[entry.inode], name)
        else:
            made[entry.inode] = name
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(descriptor, entry.content)
            os.fchmod(descriptor, entry.mode)
            os.close(descriptor)
        if entry.owner != us():
            os.chown(name, *entry.owner, follow_symlinks=False)


def differences(one: frozenset[tuple[object, ...]], other: frozenset[tuple[object, ...]]) -> str:
    """In which paths two states differ."""
    return ", ".join(sorted({str(line[0]) for line in one ^ other}))
