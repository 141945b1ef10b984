# SPDX-License-Identifier: Apache-2.0
"""A model of a disk: what of a tree a power loss may leave behind.

POSIX promises no more than this: the bytes, the mode and the owner of a file are
there after an fsync of it, the names in a folder after an fsync of the folder.
Whatever is younger may be there or not, one name without the other, in any
order; a name may be there before the bytes behind it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from image_uploader_plugins.local_export import layout
from tests.robustness.faults.snapshot import Entry, Snapshot, us
from tests.support.faults import Hook, Primitive


@dataclasses.dataclass(eq=False)
class Inode:
    """What it is now, and what of it is durable; a "folder" has ``names``."""

    kind: str
    mode: int
    content: bytes = b""
    names: dict[str, Inode] = dataclasses.field(default_factory=dict)
    owner: tuple[int, int] = dataclasses.field(default_factory=us)
    durable_mode: int = 0
    durable_owner: tuple[int, int] = (0, 0)
    durable_content: bytes = b""
    durable_names: dict[str, Inode] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.durable_mode, self.durable_owner = self.mode, self.owner
        if self.kind == "link":
            self.durable_content = self.content

    def sync(self) -> None:
        self.durable_mode, self.durable_owner = self.mode, self.owner
        self.durable_content = self.content
        self.durable_names = dict(self.names)


@dataclasses.dataclass(frozen=True)
class Change:
    """A name in a folder that is not durable yet: what it stands for now, or nothing."""

    folder: Inode
    name: str
    inode: Inode | None


Names = Callable[[Inode], Mapping[str, Inode]]
Content = Callable[[Inode], bytes]


class Disk:
    """Carries out the calls of a storage below ``base`` through ``hook``, and takes notes.

    All that is there before the first call is durable.
    """

    def __init__(self, base: Path, hook: Hook) -> None:
        self.pending: list[Change] = []
        self._hook = hook
        self._base = base
        self._inodes: dict[int, Inode] = {}

    @functools.cached_property
    def _top(self) -> Inode:
        return self._read(self._base)

    def _read(self, path: Path) -> Inode:
        status = path.lstat()
        if status.st_ino in self._inodes:
            return self._inodes[status.st_ino]
        if path.is_symlink():
            inode = Inode("link", 0o777, os.fsencode(path.readlink()))
        elif path.is_dir():
            inode = Inode("folder", status.st_mode & 0o7777)
            inode.names = {child.name: self._read(child) for child in sorted(path.iterdir())}
        else:
            inode = Inode("file", status.st_mode & 0o7777, path.read_bytes())
        inode.owner = status.st_uid, status.st_gid
        inode.sync()
        self._inodes[status.st_ino] = inode
        return inode

    # -- calls

    def __call__(self, primitive: Primitive) -> Any:
        assert self._top
        result = self._hook(primitive)
        if primitive.changes:
            note = getattr(self, f"_note_{primitive.function.__name__}")
            note(result, *primitive.args, **primitive.kwargs)
        return result

    def _of(self, descriptor: int) -> Inode:
        return self._inodes[os.fstat(descriptor).st_ino]

    def _named(self, path: Path) -> Inode | None:
        if path != self._base and not path.is_relative_to(self._base):
            return None
        inode = self._top
        for part in path.relative_to(self._base).parts:
            if part not in inode.names:
                return None
            inode = inode.names[part]
        return inode

    def _put(self, folder: Inode, name: str, inode: Inode | None) -> None:
        if inode:
            folder.names[name] = inode
        else:
            del folder.names[name]
        self.pending.append(Change(folder, name, inode))

    def _sync(self, inode: Inode) -> None:
        inode.sync()
        self.pending = [change for change in self.pending if change.folder is not inode]

    def _note_open(self, result: int, name: str, flags: int, mode: int, *, dir_fd: int) -> None:
        folder = self._of(dir_fd)
        if name not in folder.names:
            made = self._inodes[os.fstat(result).st_ino] = Inode("file", mode)
            self._put(folder, name, made)

    def _note_write(self, result: int, descriptor: int, data: bytes) -> None:
        self._of(descriptor).content += bytes(data[:result])

    def _note_fchmod(self, result: None, descriptor: int, mode: int) -> None:
        self._of(descriptor).mode = mode

    def _note_fchown(self, result: None, descriptor: int, uid: int, gid: int) -> None:
        # Lock files are made past the storage.
        inode = self._inodes.get(os.fstat(descriptor).st_ino)
        if inode:
            inode.owner = uid, gid

    def _note_change_owner_of_link(
        self, result: None, name: str, owner: tuple[int, int], parent: int
    ) -> None:
        # As its content, it comes with the name.
        inode = self._of(parent).names[name]
        inode.owner = inode.durable_owner = owner

    def _note_utime(self, result: None, descriptor: int, *, ns: tuple[int, int]) -> None:
        """Nobody looks at it here."""

    def _note_fsync(self, result: None, descriptor: int) -> None:
        self._sync(self._of(descriptor))

    def _note_sync_all(self, result: None, descriptors: Sequence[int]) -> None:
        for descriptor in descriptors:
            self._sync(self._of(descriptor))

    def _note_sync_file_system(self, result: None, descriptor: int) -> None:
        for inode in self._inodes.values():
            inode.sync()
        self.pending.clear()

    def _note_sync_folder(self, result: None, path: Path) -> None:
        inode = self._named(path)
        if inode:
            self._sync(inode)

    def _note_make_root_folder(self, result: None, path: Path) -> None:
        folder = self._named(path.parent)
        if folder and path.name not in folder.names:
            made = self._inodes[path.stat().st_ino] = Inode("folder", 0o755)
            self._put(folder, path.name, made)

    def _note_make_folder(self, result: None, name: str, mode: int, parent: int) -> None:
        folder = self._of(parent)
        if name not in folder.names:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            made = self._inodes[status.st_ino] = Inode("folder", status.st_mode & 0o7777)
            self._put(folder, name, made)

    def _note_rename(
        self, result: None, old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int
    ) -> None:
        source, target = self._of(src_dir_fd), self._of(dst_dir_fd)
        inode = source.names[old]
        # Of two names of one file rename(2) removes neither.
        if target.names.get(new) is not inode:
            self._put(source, old, None)
            self._put(target, new, inode)

    def _note_link(
        self, result: None, old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int, **_: Any
    ) -> None:
        self._put(self._of(dst_dir_fd), new, self._of(src_dir_fd).names[old])

    def _note_symlink(self, result: None, target: str, name: str, *, dir_fd: int) -> None:
        self._put(self._of(dir_fd), name, Inode("link", 0o777, target.encode()))

    def _note_unlink(self, result: None, name: str, *, dir_fd: int) -> None:
        self._put(self._of(dir_fd), name, None)

    _note_rmdir = _note_unlink

    # -- what may be left

    def losses(self, *, thoroughly: bool) -> Iterator[tuple[str, Snapshot]]:
        """The trees that may be there after a power loss now, and what got lost of them.

        ``thoroughly``: also without any one of the changes that are pending.
        """
        yield "nothing that was not synced is there", self._left([])
        yield "all names are there, nothing of unsynced files", self._left(self.pending)
        yield "all names are there, half of unsynced files", self._left(self.pending, _half)
        if self._named(self._base / "image-serve" / layout.PARTIAL):
            # Whoever finds them in their place goes on with them.
            yield "unsynced files are full of holes", self._left(self.pending, _holes)
        for folder in dict.fromkeys(change.folder for change in self.pending):
            inside = [change for change in self.pending if change.folder is folder]
            others = [change for change in self.pending if change.folder is not folder]
            yield f"only {_text(inside)} is there", self._left(inside)
            yield f"{_text(inside)} got lost", self._left(others)
        if self.pending:
            last = self.pending[-1:]
            yield f"only {_text(last)} is there", self._left(last)
        for n in range(len(self.pending) if thoroughly else 0):
            others = [change for i, change in enumerate(self.pending) if i != n]
            yield f"{_text(self.pending[n : n + 1])} got lost", self._left(others)

    def _left(self, survivors: list[Change], content: Content | None = None) -> Snapshot:
        """What is durable, and of the rest the survivors."""
        names: dict[Inode, dict[str, Inode]] = {}
        for change in survivors:
            found = names.setdefault(change.folder, dict(change.folder.durable_names))
            found.pop(change.name, None)
            if change.inode:
                found[change.name] = change.inode
        entries: dict[str, Entry] = {}
        top = names.get(self._top, self._top.durable_names)
        if "image-serve" in top:
            self._collect(".", top["image-serve"], names, content or _durable, entries)
        return Snapshot(entries)

    def _collect(
        self,
        path: str,
        inode: Inode,
        names: Mapping[Inode, Mapping[str, Inode]],
        content: Content,
        entries: dict[str, Entry],
    ) -> None:
        mode = inode.mode if inode in names else inode.durable_mode
        owner = inode.owner if inode in names else inode.durable_owner
        if inode.kind != "folder":
            entries[path] = Entry(inode.kind, mode, content(inode), id(inode), owner)
            return
        entries[path] = Entry("folder", mode, owner=owner)
        start = "" if path == "." else f"{path}/"
        for name, child in names.get(inode, inode.durable_names).items():
            self._collect(start + name, child, names, content, entries)


def _durable(inode: Inode) -> bytes:
    return inode.durable_content


def _half(inode: Inode) -> bytes:
    synced = inode.durable_content == inode.content
    return inode.content if synced else inode.content[: len(inode.content) // 2]


def _holes(inode: Inode) -> bytes:
    synced = inode.durable_content == inode.content
    return inode.content if synced else bytes(len(inode.content))


def _text(changes: list[Change]) -> str:
    return ", ".join(f"{'' if change.inode else 'un'}linked {change.name}" for change in changes)
