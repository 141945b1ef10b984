# SPDX-License-Identifier: Apache-2.0
"""Counts of how often a storage looks at the disk, for tests of what an image costs."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.storage import entries
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support.faults import Primitive, hooked

FEW, MANY = 40, 60
_BASE = images.layer({"base": b"shared"})


class Looks:
    """Counts of what a storage does, by kind, and of the openings of each path."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.opened: collections.Counter[str] = collections.Counter()

    def __call__(self, primitive: Primitive) -> Any:
        if primitive.opens:
            self.counts["opens"] += 1
            self.opened[str(primitive.path)] += 1
        elif primitive.function is entries.listing:
            self.counts["listings"] += 1
        elif primitive.function is os.stat:
            self.counts["stats"] += 1
        elif primitive.function is os.read:
            self.counts["reads"] += 1
        return primitive()


def image(name: str, number: int) -> Image:
    """Return an image with one layer that all share."""
    return images.image(name, f"v{number}", [_BASE], labels={"number": str(number)})


def put(driver: LocalExportDriver, one: Image) -> None:
    """Put an image with its blobs."""
    for blob in one.manifest.blobs():
        driver.upload_layer(one.repository, [one.blobs[blob.digest]], expected=blob.digest)
    content, media_type = one.manifest.content, one.manifest.media_type
    driver.put_manifest(one.repository, content, media_type, tag=one.tag)


def of(action: Callable[[], object]) -> Looks:
    """Return the looks of an action."""
    found = Looks()
    with hooked(found):
        action()
    return found


def of_one_more(root: Path, name: str, action: Callable[[], object]) -> dict[str, float]:
    """Return how many more looks an action takes for one image more, where there are many.

    ``name`` is their repository, maybe with {} for a number.
    """
    with LocalExportDriver(root) as driver:
        for number in range(FEW):
            put(driver, image(name.format(number), number))
        before = of(action).counts
        for number in range(FEW, MANY):
            put(driver, image(name.format(number), number))
    now = of(action).counts
    return {kind: (now[kind] - before[kind]) / (MANY - FEW) for kind in now}
