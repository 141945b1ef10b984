# SPDX-License-Identifier: Apache-2.0
"""Which entries of folders change, as the kernel tells it at once: inotify(7).

Times of folders and files are too coarse for that: two changes within some
milliseconds can have the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import struct
import weakref
from collections.abc import Callable, Iterator, Sequence

from image_uploader_plugins.storage import mounts

# NOTE: the values of <sys/inotify.h>, the same on every architecture but for the first two,
# which are flags of open(2).
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC
_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _ONLY_FOLDER = 0x400, 0x800, 0x0100_0000
# A file that is mapped into memory is changed without _MODIFY, but closed in the end.
_CHANGES = (
    *(_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE),
    *(_DELETE_SELF, _MOVE_SELF, _ONLY_FOLDER),
)
_EVENT = struct.Struct("iIII")
_BUFFER = 64 * 1024


class Watch:
    """What changes in some folders, which are given as open descriptors.

    ``inodes`` are the devices and inode numbers of the folders.

    Raises OSError where the kernel cannot tell. It tells of all changes that are
    made on this machine by the names in these folders, not of those by another
    link to the same file.
    """

    def __init__(self, folders: Sequence[int]) -> None:
        self._descriptor = call("inotify_init1", _FLAGS)
        # Also where it is forgotten, and in a child of fork that forgets it.
        self.close = weakref.finalize(self, os.close, self._descriptor)
        self.close.atexit = False
        try:
            self.inodes = [(s.st_dev, s.st_ino) for s in map(os.fstat, folders)]
            self._numbers = [self._add(folder) for folder in folders]
        except BaseException:
            self.close()
            raise

    def _add(self, folder: int) -> int:
        path = os.fsencode(f"/proc/self/fd/{folder}")
        return call("inotify_add_watch", self._descriptor, path, sum(_CHANGES))

    def changed(self) -> list[set[str]] | None:
        """Return the names of entries that changed since the last call, of each folder.

        None where a folder itself was moved, removed or changed, or where so much
        changed that the kernel did not keep it: the watch is of no use any more.
        """
        found: dict[int, set[str]] = {number: set() for number in self._numbers}
        for number, name in self._events():
            if not name or number not in found:
                return None
            found[number].add(name)
        return [found[number] for number in self._numbers]

    def _events(self) -> Iterator[tuple[int, str]]:
        with contextlib.suppress(BlockingIOError):
            while events := os.read(self._descriptor, _BUFFER):
                at = 0
                while at < len(events):
                    number, _, _, length = _EVENT.unpack_from(events, at)
                    at += _EVENT.size + length
                    yield number, os.fsdecode(events[at - length : at].rstrip(b"\0"))


def watch(folders: Sequence[int]) -> Watch | None:
    """Return a watch on open folders; None unless all changes of them are sure to be noticed."""
    table = mounts.read()
    if not all((mount := mounts.mount_of(table, f)) and mount.is_local for f in folders):
        return None  # what another machine changes is not told here
    with contextlib.suppress(OSError):
        return Watch(folders)
    return None


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: object) -> int:
    """Return what a function of the C library returns; raise its error as OSError."""
    function: Callable[..., int] = getattr(_library(), name)
    found = function(*args)
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return found
