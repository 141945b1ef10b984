# SPDX-License-Identifier: Apache-2.0
"""How often a verification reads, lists and opens what an image consists of."""

from __future__ import annotations

import collections
import os
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.storage import beneath, entries
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support.faults import Primitive, hooked

BASE = images.layer({"base": b"shared"})
FEW, MANY = 40, 60


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
    return images.image(name, f"v{number}", [BASE], labels={"number": str(number)})


def put(driver: LocalExportDriver, one: Image) -> None:
    for blob in one.manifest.blobs():
        driver.upload_layer(one.repository, [one.blobs[blob.digest]], expected=blob.digest)
    content, media_type = one.manifest.content, one.manifest.media_type
    driver.put_manifest(one.repository, content, media_type, tag=one.tag)


def looks(root: Path) -> Looks:
    found = Looks()
    with hooked(found):
        report = Verification(Tree(root)).report()
    assert report.findings == ()
    return found


def cost(root: Path, name: str) -> dict[str, float]:
    """Return what one image more costs, where there are many."""
    with LocalExportDriver(root) as driver:
        for number in range(FEW):
            put(driver, image(name.format(number), number))
        before = looks(root).counts
        for number in range(FEW, MANY):
            put(driver, image(name.format(number), number))
    now = looks(root).counts
    return {kind: (now[kind] - before[kind]) / (MANY - FEW) for kind in now}


@pytest.mark.skipif(not beneath.is_available(), reason="folders are entered step by step")
@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("ns/one", {"opens": 23, "listings": 5, "stats": 26, "reads": 13}),
        ("ns/image{}", {"opens": 90, "listings": 29, "stats": 57, "reads": 15}),
    ],
)
def test_an_image_costs_few_calls(root: Path, name: str, limits: dict[str, float]) -> None:
    found = cost(root, name)
    assert {kind: found[kind] <= limit for kind, limit in limits.items()} == dict.fromkeys(
        limits, True
    ), found


def test_a_manifest_is_read_for_its_needs_and_for_its_files(root: Path) -> None:
    one = image("ns/one", 0)
    with LocalExportDriver(root) as driver:
        put(driver, one)
    place = layout.RepositoryLayout(one.repository)
    opened = looks(root).opened
    assert opened[str(place.manifest_content(one.digest))] == 2
    assert opened[str(place.typed_manifest(one.digest, one.manifest.media_type))] == 0
