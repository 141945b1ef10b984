# SPDX-License-Identifier: Apache-2.0
"""Verification of owners and modes: everything belongs to the owner of the root."""

from __future__ import annotations

import collections
import os
import pwd
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.verify.finding import Finding, Kind, Remedy
from image_uploader_plugins.storage import File, Owner, Storage

_ROOT = PurePosixPath()
_PRIVATE = f"{layout.STATE}/"


class Access:
    """A check for files that a web server cannot read, that others can write, or own."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._names: collections.Counter[tuple[int, int]] | None = None
        # By all that the answer depends on, since most files have the same.
        self._known: dict[tuple[str, int, int, bool], Sequence[str]] = {}

    def findings(self, file: File) -> Sequence[Finding]:
        """Return what is wrong with the mode or the owner of a file, folder or link."""
        key = (file.kind, file.mode, file.uid, f"{file.place}/".startswith(_PRIVATE))
        problems = self._known.get(key)
        if problems is None:
            problems = self._known[key] = [*_wrong_mode(file), *self._foreign(file)]
        if not problems:
            return ()
        remedy = Remedy.REPAIR if self.can_mend(file) else Remedy.LOOK
        return [Finding(file.path, " and ".join(problems), Kind.ACCESS, remedy)]

    def root(self) -> Iterator[Finding]:
        """Yield findings of the root, which may be open to a group alone."""
        file = self._storage.status(_ROOT)
        if file and not (self._is_for_a_group(file) and not file.mode & 0o007):
            yield from self.findings(file)

    def can_mend(self, file: File) -> bool:
        """Return whether this process may change the mode and, where that is needed, the owner.

        NOTE: a file with a link outside the tree is not given away, since
        another user could have linked a file of root into the tree and would
        then own it.
        """
        if os.geteuid() == 0:
            return not self._is_foreign(file) or not self._is_linked_outside(file)
        return file.uid == os.geteuid() and not self._is_foreign(file)

    def _is_foreign(self, file: File) -> bool:
        return self._storage.is_foreign(file.uid)

    def _foreign(self, file: File) -> Iterator[str]:
        if self._is_foreign(file):
            whose = f"belongs to {Owner(file.uid, 0)}, the tree to {self._storage.owner}"
            yield whose if os.geteuid() == 0 else f"{whose}: verify --repair as root gives it back"

    def _is_linked_outside(self, file: File) -> bool:
        if file.kind != "file" or file.links == 1:
            return False
        if self._names is None:
            found = (f for top in (layout.STATE, layout.V2) for f in self._storage.below(top))
            self._names = collections.Counter(f.inode for f in found if f.kind == "file")
        return file.links > self._names[file.inode]

    def _is_for_a_group(self, file: File) -> bool:
        """Return whether a folder is open to its group, which is not its owner's primary group."""
        owner = self._storage.owner
        try:
            own = pwd.getpwuid(file.uid).pw_gid
        except KeyError:
            return False
        return owner is not None and owner.gid != own and file.mode & 0o050 == 0o050


def _wrong_mode(file: File) -> Iterator[str]:
    """Yield a wrong mode: served files are for all to read, others for the owner alone."""
    needed = {"file": 0o444, "folder": 0o555}.get(file.kind)
    refused = 0o002
    if layout.PLACES.is_private(file.path):
        needed, refused = (0o700, 0o077) if file.kind == "folder" else (None, 0)
    if needed is not None and (file.mode & needed != needed or file.mode & refused):
        yield f"its mode is {file.mode:04o}"
