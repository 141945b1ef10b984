# SPDX-License-Identifier: Apache-2.0
"""Opening of a folder or file, however deep, by one system call that follows no symbolic link."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable

# NOTE: openat2(2), Linux 5.6: the same number on every architecture that Debian and
# Red Hat build for; the C library has no function for it.
_OPENAT2 = 437
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# NOTE: opening a FIFO would wait for somebody to write into it.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _How(ctypes.Structure):
    """The struct open_how of openat2(2)."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


# Those of os.fsencode().
_ENCODING = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_SIZE = ctypes.sizeof(_How)
_TO_ENTER = ctypes.byref(_How(FOLDER, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH))
_TO_LOOK = ctypes.byref(
    _How(os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH)
)
_TO_READ = ctypes.byref(_How(READ, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH))


@functools.cache
def _syscall() -> Callable[..., int]:
    # Not CDLL, which gives up the interpreter's lock: to get it back among busy threads takes
    # much longer than to open a folder.
    function = ctypes.PyDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    return function


def open_folder_beneath(top: int, path: str) -> int:
    """Open the folder at a relative path below an open one; raise OSError.

    ELOOP means a symbolic link on the way, wherever it leads.
    """
    return _open(top, path, _TO_ENTER)


def open_file_beneath(top: int, path: str) -> int:
    """Open what is at a relative path below an open folder, to read; raise OSError.

    ELOOP means a symbolic link there or on the way, wherever it leads.
    """
    return _open(top, path, _TO_READ)


def status_beneath(top: int, path: str) -> os.stat_result:
    """Return lstat(2) of what is at a relative path below an open folder; raise OSError.

    ELOOP means a symbolic link on the way, wherever it leads.
    """
    descriptor = _open(top, path, _TO_LOOK)
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _open(top: int, path: str, how: object) -> int:
    found = _syscall()(_OPENAT2, top, path.encode(*_ENCODING), how, _SIZE)
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return found


@functools.cache
def is_available() -> bool:
    """Return whether the kernel has openat2(2) and the sandbox of this process allows it."""
    top = os.open("/", FOLDER)
    try:
        os.close(open_folder_beneath(top, "."))
    except OSError as e:
        if e.errno not in (errno.ENOSYS, errno.EPERM, errno.EACCES):
            raise
        return False
    finally:
        os.close(top)
    return True
