# SPDX-License-Identifier: Apache-2.0
"""Trees of many small images: how one is filled, and what one operation takes there.

As a program it prints JSON. ``fill ROOT SHAPE FROM TO SECONDS`` adds images through the
driver without flushes, and prints how many there was time for; ``change ROOT SHAPE
SECONDS`` prints the milliseconds of each operation.
"""

from __future__ import annotations

import enum
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, Tag
from image_uploader_plugins.testing.images import Image, image

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

WRITE = "one write and flush"
OPERATIONS = ("new image", "new tag", "moved tag", "deleted tag")

NEW = 100_000_000
"""The first number of images that no tree is filled with."""

_REPEATS = 20
_LEAST = 3
_PAGE = 4096


class Shape(enum.Enum):
    """Where the images of a tree are."""

    REPOSITORIES = "repositories"
    TAGS = "tags"


def small_image(shape: Shape, number: int, edition: str = "") -> Image:
    """Return an image without layers: a repository of its own, or a tag of the one."""
    labels = {"number": str(number), "edition": edition}
    if shape is Shape.TAGS:
        return image("one/repository", f"v{number}", [], labels=labels)
    return image(f"group-{number % 100}/image-{number}", "1.0", [], labels=labels)


def fill(root: str, shape: str, start: str, end: str, seconds: str) -> None:
    """Add the images of a range, until the time is over; print how many these are."""
    # Speed is measured later, and nothing has to survive a power loss.
    os.fsync = os.fdatasync = _no_flush
    number, last = int(start), int(end)
    deadline = time.monotonic() + float(seconds)
    with LocalExportDriver(root) as driver:
        while number < last and time.monotonic() < deadline:
            _put(driver, small_image(Shape(shape), number))
            number += 1
    json.dump(number - int(start), sys.stdout)


def change(root: str, shape: str, seconds: str) -> None:
    """Do each operation a few times; print the milliseconds."""
    taken: dict[str, list[float]] = {name: [] for name in (WRITE, *OPERATIONS)}
    deadline = time.monotonic() + float(seconds)
    probe = Path(root).with_name("probe")
    with LocalExportDriver(root) as driver:
        for repeat in range(_REPEATS):
            if repeat >= _LEAST and time.monotonic() > deadline:
                break
            for name, act in _operations(driver, Shape(shape), NEW + repeat):
                taken[WRITE].append(_timed(lambda: _write_and_flush(probe)))
                taken[name].append(_timed(act))
            _clean(driver, Shape(shape), NEW + repeat)
    json.dump(taken, sys.stdout)


def _operations(
    driver: LocalExportDriver, shape: Shape, number: int
) -> list[tuple[str, Callable[[], object]]]:
    """Return the operations on a new image, in their order."""
    first, second = small_image(shape, number), small_image(shape, number, "second")
    again = Tag(f"{first.tag}-again")
    tag = Tag(str(first.tag))
    return [
        ("new image", lambda: _put(driver, first)),
        ("new tag", lambda: _tag(driver, first, again)),
        ("moved tag", lambda: _put(driver, second)),
        ("deleted tag", lambda: driver.delete(ImageRef(first.repository, tag))),
    ]


def _clean(driver: LocalExportDriver, shape: Shape, number: int) -> None:
    """Remove the tag that the operations leave."""
    first = small_image(shape, number)
    driver.delete(ImageRef(first.repository, Tag(f"{first.tag}-again")))


def _put(driver: LocalExportDriver, image: Image, tag: Tag | None = None) -> None:
    (config,) = image.blobs.values()
    content, media_type = image.manifest.content, image.manifest.media_type
    driver.put_manifest(image.repository, content, media_type, tag=tag or image.tag, config=config)


def _tag(driver: LocalExportDriver, image: Image, tag: Tag) -> None:
    content, media_type = image.manifest.content, image.manifest.media_type
    driver.put_manifest(image.repository, content, media_type, tag=tag)


def _no_flush(fd: FileDescriptorLike) -> None:
    """Return at once."""


def _write_and_flush(path: Path) -> None:
    with path.open("wb") as file:
        file.write(bytes(_PAGE))
        file.flush()
        os.fsync(file.fileno())


def _timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    commands: dict[str, Callable[..., None]] = {"fill": fill, "change": change}
    commands[sys.argv[1]](*sys.argv[2:])
