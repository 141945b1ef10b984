# SPDX-License-Identifier: Apache-2.0
"""A temporary file without a name, for what cannot be read where it lies.

It goes with the process, however that ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from image_uploader_plugins import errors
from image_uploader_plugins.storage import mapped
from image_uploader_plugins.units import size

# NOTE: /tmp is memory on many machines; podman keeps what is large here, too.
_PLACE = Path("/var/tmp")  # noqa: S108 - nothing in it has a name
_RESERVE = 256 * 1024**2
_SHARE = 20


def spooled(chunks: Iterable[bytes]) -> IO[bytes]:
    """Return a file in TMPDIR (default: /var/tmp) with these bytes, which the caller closes.

    Leaves others 256 MiB of the disk, or a twentieth of a small one; raises
    StorageFull otherwise.
    """
    folder = _folder()
    file = mapped(folder, _nameless, folder)
    try:
        _fill(file, folder, chunks)
    except BaseException:
        file.close()
        raise
    return file


def _nameless(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder)


def _fill(file: IO[bytes], folder: Path, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        _check_room(folder, len(chunk))
        mapped(folder, file.write, chunk)
    mapped(folder, file.flush)


def _folder() -> Path:
    named = os.environ.get("TMPDIR")
    if named:
        return Path(named)
    return _PLACE if os.access(_PLACE, os.W_OK) else Path(tempfile.gettempdir())


def _check_room(folder: Path, more: int) -> None:
    disk = mapped(folder, os.statvfs, folder)
    reserve = min(_RESERVE, disk.f_blocks * disk.f_frsize // _SHARE)
    if disk.f_bavail * disk.f_frsize - more < reserve:
        raise errors.StorageFull(
            folder,
            f"less than {size(reserve)} would be left; TMPDIR names a place with more room",
        )
