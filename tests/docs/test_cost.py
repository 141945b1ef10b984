# SPDX-License-Identifier: Apache-2.0
"""What the page about operating says that an image takes on the disk, counted."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.docs.console import SOURCE
from tests.support import trees
from tests.support.faults import fast_folder

_TAGS = 32  # lists are divided into windows, so one tag more costs now less and now more
_BLOCK = 4096  # of ext4 and xfs
_INLINE = 59  # bytes of a symbolic link that ext4 keeps in its inode

_BASE = images.layer({"base": b"base"})


def image(tag: str, content: str) -> Image:
    """An image with a config and a layer of its own, and a layer that all share."""
    own = images.layer({"own": content.encode()})
    return images.image("app", tag, [_BASE, own])


def everything(root: Path) -> Iterator[os.stat_result]:
    """What find lists."""
    yield root.lstat()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            yield Path(folder, name).lstat()


def kilobytes(status: os.stat_result) -> int:
    """What du counts on a file system with blocks of 4 KiB; a folder has one, however long."""
    if stat.S_ISDIR(status.st_mode):
        return _BLOCK // 1024
    if stat.S_ISLNK(status.st_mode) and status.st_size <= _INLINE:
        return 0
    return math.ceil(status.st_size / _BLOCK) * _BLOCK // 1024


def cost(root: Path) -> tuple[int, int, int]:
    """Names, inodes, and kilobytes."""
    found = list(everything(root))
    inodes = {status.st_ino: status for status in found}
    return len(found), len(inodes), sum(map(kilobytes, inodes.values()))


def counted(root: Path, put: Callable[[LocalExportDriver, int], object]) -> tuple[int, ...]:
    """What one of many puts costs, on average, rounded."""
    before = cost(root)
    with LocalExportDriver(root) as driver:
        for number in range(_TAGS):
            put(driver, number)
    return tuple(round((b - a) / _TAGS) for a, b in zip(before, cost(root), strict=True))


def said() -> list[tuple[int, ...]]:
    table = (SOURCE / "operating.rst").read_text().partition("\n.. _cost:\n")[2]
    cells = re.findall(r"^     - (\d+)\n     - (\d+)\n     - (\d+) kB$", table, re.MULTILINE)
    return [tuple(map(int, row)) for row in cells]


@pytest.mark.slow
def test_the_table_of_the_page() -> None:
    with fast_folder() as folder:
        root = folder / "tree"
        with LocalExportDriver(root) as driver:
            for number in range(_TAGS):
                trees.put(driver, image(f"first-{number}", f"first {number}"))
        new = counted(root, lambda d, n: trees.put(d, image(f"new-{n}", f"new {n}")))
        old = counted(root, lambda d, n: trees.put(d, image(f"old-{n}", f"first {n}")))
        moved = counted(root, lambda d, n: trees.put(d, image(f"new-{n}", f"moved {n}")))
    assert said() == [new, old, moved]
