# SPDX-License-Identifier: Apache-2.0
"""How often a verification reads, lists and opens what an image consists of."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.storage import beneath
from tests.support import looks


def verify(root: Path) -> None:
    assert Verification(Tree(root)).report().findings == ()


@pytest.mark.skipif(not beneath.is_available(), reason="folders are entered step by step")
@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("ns/one", {"opens": 10, "listings": 3, "stats": 18, "reads": 8}),
        ("ns/image{}", {"opens": 27, "listings": 14, "stats": 36, "reads": 10}),
    ],
)
def test_an_image_costs_few_calls(root: Path, name: str, limits: dict[str, float]) -> None:
    found = looks.of_one_more(root, name, lambda: verify(root))
    assert {kind: count for kind, count in found.items() if count > limits[kind]} == {}


def test_a_manifest_is_read_once(root: Path) -> None:
    one = looks.image("ns/one", 0)
    with LocalExportDriver(root) as driver:
        looks.put(driver, one)
    place = layout.RepositoryLayout(one.repository)
    opened = looks.of(lambda: verify(root)).opened
    assert opened[str(place.manifest_content(one.digest))] == 1
    assert opened[str(place.typed_manifest(one.digest, one.manifest.media_type))] == 0


def test_a_manifest_is_parsed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalExportDriver(root) as driver:
        looks.put(driver, looks.image("ns/one", 0))
    parsed: list[bytes] = []
    parse = Manifest.parse

    def counting(content: bytes, media_type: str | None = None) -> Manifest:
        parsed.append(content)
        return parse(content, media_type)

    monkeypatch.setattr(Manifest, "parse", counting)
    verify(root)
    assert len(parsed) == 1
