# SPDX-License-Identifier: Apache-2.0
"""How often a list, and the report on one image, read and open what an image consists of."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.reports.forecast import Forecast
from image_uploader_plugins.local_export.reports.holdings import Holdings, images
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import completeness
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.storage import beneath
from tests.support import looks

NAME = RepositoryName("ns/one")


def show(root: Path) -> None:
    tree = Tree(root)
    holdings = Holdings(tree, NAME)
    (found,) = holdings.tagged(Tag("v0"))
    assert found.digest
    assert not list(completeness.problems(tree, holdings, found.digest, Meter(), hashing=False))


@pytest.mark.skipif(not beneath.is_available(), reason="folders are entered step by step")
def test_an_image_costs_few_calls(root: Path) -> None:
    limits = {"opens": 4, "listings": 0, "stats": 3, "reads": 3}
    found = looks.of_one_more(root, NAME.value, lambda: images(Tree(root), NAME))
    assert {kind: count for kind, count in found.items() if count > limits[kind]} == {}


@pytest.mark.skipif(not beneath.is_available(), reason="folders are entered step by step")
def test_in_brief_an_image_costs_its_tag_and_its_manifest(root: Path) -> None:
    limits = {"opens": 2, "listings": 0, "stats": 1, "reads": 2}
    found = looks.of_one_more(root, NAME.value, lambda: images(Tree(root), NAME, brief=True))
    assert {kind: count for kind, count in found.items() if count > limits[kind]} == {}


def test_in_brief_sizes_are_the_same(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        for number in range(3):
            looks.put(driver, looks.image(NAME.value, number))
    for brief, whole in zip(
        images(Tree(root), NAME, brief=True), images(Tree(root), NAME), strict=True
    ):
        assert (brief.tag, brief.size, brief.kind, brief.changed, brief.digest) == (
            *(whole.tag, whole.size, whole.kind, whole.changed, whole.digest),
        )


@pytest.mark.skipif(not beneath.is_available(), reason="folders are entered step by step")
def test_another_image_costs_its_names_and_its_manifest(root: Path) -> None:
    limits = {"opens": 2, "listings": 0, "stats": 1, "reads": 2}
    found = looks.of_one_more(root, NAME.value, lambda: show(root))
    assert {kind: count for kind, count in found.items() if count > limits[kind]} == {}


def foreseen(root: Path) -> None:
    tree = Tree(root)
    holdings = Holdings(tree, NAME)
    going = sorted(holdings.readable_tags())[1:]
    found = Forecast(tree).delete_all(NAME, going, known=holdings.inventory)
    assert len(found.manifests) == len(going)


@pytest.mark.skipif(not beneath.is_available(), reason="folders are entered step by step")
def test_an_image_that_would_be_deleted_costs_its_blobs_as_well(root: Path) -> None:
    limits = {"opens": 4, "listings": 0, "stats": 2, "reads": 2}
    found = looks.of_one_more(root, NAME.value, lambda: foreseen(root))
    assert {kind: count for kind, count in found.items() if count > limits[kind]} == {}


def test_a_manifest_is_read_once(root: Path) -> None:
    one = looks.image(NAME.value, 0)
    with LocalExportDriver(root) as driver:
        looks.put(driver, one)
    content = str(layout.RepositoryLayout(NAME).manifest_content(one.digest))
    assert looks.of(lambda: images(Tree(root), NAME)).opened[content] == 1
    assert looks.of(lambda: show(root)).opened[content] == 1
