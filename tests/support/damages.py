# SPDX-License-Identifier: Apache-2.0
"""What may have become of a file in a tree."""

from __future__ import annotations

from pathlib import Path


def flip(path: Path) -> None:
    """One bit, in the file itself: all its names have it."""
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    with path.open("r+b") as file:
        file.write(content)


def empty(path: Path) -> None:
    path.unlink()


def turn_into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def turn_into_a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def move_the_folder_away(path: Path) -> None:
    outside = path.parents[6] / "outside"
    path.parent.rename(outside)
    path.parent.symlink_to(outside)


ALL = [flip, empty, turn_into_a_folder, turn_into_a_link, move_the_folder_away]
