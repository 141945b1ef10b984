# SPDX-License-Identifier: Apache-2.0
"""Mounts: which file system a file is on, and whether other machines see the locks on it.

Sources: proc_pid_mountinfo(5), proc_pid_fdinfo(5); nfs(5), mount.cifs(8) and
each file system's own documentation of flock(2).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from image_uploader_plugins.text import one_line

MOUNTINFO = Path("/proc/self/mountinfo")

# File systems of one machine: in its memory, on its disks, or on top of those.
_LOCAL = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "nilfs2"),
        *("reiserfs", "reiser4", "minix", "ufs", "ubifs", "jffs2", "hfs", "hfsplus", "apfs"),
        *("vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "udf", "iso9660", "squashfs"),
        *("erofs", "cramfs", "romfs", "tmpfs", "ramfs", "rootfs", "devtmpfs", "hugetlbfs"),
        *("overlay", "overlayfs", "aufs", "unionfs", "ecryptfs", "shiftfs", "simfs"),
        # The layers of an unprivileged user's container.
        "fuse.fuse-overlayfs",
    }
)
# File systems whose locks all machines see, and the options that prevent it.
_SHARED: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("nfs", "nfs4"),
        frozenset({"nolock", *(f"local_lock={kind}" for kind in ("all", "flock", "posix"))}),
    ),
    **dict.fromkeys(("cifs", "smb3", "smbfs"), frozenset({"nobrl", "nolock"})),
    **dict.fromkeys(("ceph", "fuse.ceph", "fuse.ceph-fuse"), frozenset()),
    **dict.fromkeys(("glusterfs", "fuse.glusterfs"), frozenset()),
    "gfs2": frozenset({"localflocks", "lockproto=lock_nolock"}),
    "ocfs2": frozenset({"localflocks"}),
    "lustre": frozenset({"localflock", "noflock"}),
}
# File systems with no or only local locks, unless an option says otherwise.
_NEEDED = {"lustre": "flock"}
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """A line of mountinfo: ``number`` is the mount's own, ``device`` is "major:minor".

    ``options`` are those of the mount and of the file system.
    """

    number: int
    device: str
    point: PurePosixPath
    kind: str
    options: frozenset[str]

    def __str__(self) -> str:
        return one_line(f"{self.kind} mounted at {self.point}")

    @property
    def is_local(self) -> bool:
        """Return whether no other machine can have the same files.

        A file system that is not known here counts as local where it is on a
        disk.
        """
        on_disk = not self.device.startswith("0:")
        return self.kind in _LOCAL or (on_disk and self.kind not in _SHARED)

    def flaw(self) -> str | None:
        """Return why other machines with the same files do not see its locks; None if they do."""
        if self.kind not in _SHARED:
            return "whose locks other machines do not see, as far as is known"
        missing = {_NEEDED[self.kind]} - self.options if self.kind in _NEEDED else set()
        for option in sorted(self.options & _SHARED[self.kind]):
            return f"with {option}, so that other machines do not see its locks"
        for option in missing:
            return f"without {option}, so that other machines do not see its locks"
        return None


def read() -> list[Mount]:
    """Return the mounts that this process sees; none where they cannot be read."""
    with contextlib.suppress(OSError):
        return parse(MOUNTINFO.read_text("utf-8", "surrogateescape"))
    return []


def parse(text: str) -> list[Mount]:
    """Return the mounts in a mountinfo; lines that are not valid are left out."""
    return [mount for line in text.splitlines() if (mount := _parsed(line))]


def _parsed(line: str) -> Mount | None:
    # NOTE: a source may be empty, so that there are two spaces.
    fields = line.split(" ")
    try:
        end = fields.index("-", 6)
        number, device, point = int(fields[0]), fields[2], PurePosixPath(_plain(fields[4]))
        options = ",".join([fields[5], *fields[end + 3 : end + 4]]).split(",")
        if not fields[end + 1]:
            return None
        return Mount(
            number, device, point, _plain(fields[end + 1]), frozenset(map(_plain, options))
        )
    except (ValueError, IndexError):
        return None


def _plain(text: str) -> str:
    """Return a field with its octal escapes (space, tab, newline, backslash and "#") decoded."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


def mount_of(mounts: Sequence[Mount], descriptor: int) -> Mount | None:
    """Return the mount that an open folder is on, if it is among these."""
    number = mount_id(descriptor)
    for mount in mounts:
        if mount.number == number:
            return mount
    status = os.fstat(descriptor)
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    with contextlib.suppress(OSError):
        return covering(mounts, Path(f"/proc/self/fd/{descriptor}").readlink(), device)
    return None


def covering(mounts: Sequence[Mount], path: PurePath, device: str) -> Mount | None:
    """Return the mount that an absolute path without links is on, by the mount points.

    Of several, it is the innermost and last one, if possible of the ``device``
    that stat(2) returns.

    NOTE: one mount may hide another; a subvolume of btrfs has a device that is
    not listed.
    """
    found = [mount for mount in mounts if path.is_relative_to(mount.point)]
    found = [mount for mount in found if mount.device == device] or found
    return max(reversed(found), key=lambda mount: len(mount.point.parts), default=None)


def below(mounts: Iterable[Mount], path: PurePath) -> list[Mount]:
    """Return the mounts inside a folder."""
    return [mount for mount in mounts if path in mount.point.parents]


def mount_id(descriptor: int) -> int | None:
    """Return the number of the mount that an open file or folder is on; None if unknown.

    NOTE: the device is not enough: one file system can be mounted at two
    places, between which it refuses links, and a subvolume of btrfs has a
    device of its own.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "mnt_id":
                return int(value)
    return None


def unshared(locks: Mount, content: Iterable[Mount]) -> str | None:
    """Return why machines that share ``content`` may not share its ``locks``; None if they do.

    Also None where nothing of it can be shared.
    """
    if not locks.is_local:
        flaw = locks.flaw()
        return f"the locks are on {locks}, {flaw}" if flaw else None
    for mount in content:
        if not mount.is_local:
            return f"it is on {mount}, and its locks on {locks}, which other machines do not have"
    return None
