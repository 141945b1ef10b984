"""Which mount a file lies on, as Linux tells (proc(5))."""

from __future__ import annotations

import contextlib
from pathlib import Path


def mount_id(descriptor: int) -> int | None:
    """The number of the mount that an open file or folder is on; None where nobody tells.

    NOTE: the device tells less: one file system can be mounted at two places,
    between which it refuses links, and a subvolume of btrfs has a device of
    its own.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "mnt_id":
                return int(value)
    return None
