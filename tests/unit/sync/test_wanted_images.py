# SPDX-License-Identifier: Apache-2.0
"""Entries that want one image: it comes once, as all of them want it."""

from __future__ import annotations

from typing import Any

import pytest

from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sync import wanted_images
from image_uploader_plugins.sync.wanted import Entry, TagChoice
from image_uploader_plugins.sync.wanted_images import WantedImage

NAME = RepositoryName("ns/a")
AMD, ARM = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")


def entry(where: str = "list:1", **more: Any) -> Entry:
    tags = more.pop("tags", TagChoice((Tag("1"),)))
    return Entry(where, "quay.io", NAME, tags, **more)


def together(*entries: Entry, **options: Any) -> WantedImage:
    copying = CopyOptions(**options)
    found = [i for e in entries for i in wanted_images.of_entry(e, copying, list)]
    (image,) = wanted_images.merged(found)
    return image


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ((AMD,), (ARM,), (AMD, ARM)),
        ((AMD,), (AMD, ARM), (AMD, ARM)),
        ((AMD,), None, None),
        (None, (ARM,), None),
    ],
)
def test_platforms(one: Any, other: Any, both: Any) -> None:
    found = together(entry(platforms=one), entry("list:2", platforms=other))
    assert found.options.platforms == both
    assert found.where == ("list:1", "list:2")


@pytest.mark.parametrize(
    ("one", "other", "signatures", "types"),
    [
        ({"referrers": False}, {"referrers": False}, False, ()),
        ({"referrers": False}, {"referrers": True}, True, ()),
        ({"referrers": False}, {"artifact_types": ("a",)}, True, ("a",)),
        ({"artifact_types": ("a",)}, {"artifact_types": ("b", "a")}, True, ("a", "b")),
        ({"artifact_types": ("a",)}, {"referrers": True}, True, ()),
    ],
)
def test_what_signs_it(
    one: dict[str, Any], other: dict[str, Any], signatures: bool, types: tuple[str, ...]
) -> None:
    found = together(entry(**one), entry("list:2", **other)).options
    assert (found.signatures, found.artifact_types) == (signatures, types)


def test_what_an_entry_does_not_say_the_command_line_does() -> None:
    found = together(entry(), platforms=(AMD,), artifact_types=("a",), signatures=True)
    assert (found.options.platforms, found.options.artifact_types) == ((AMD,), ("a",))
    own = together(entry(platforms=(ARM,), artifact_types=("b",)), platforms=(AMD,))
    assert (own.options.platforms, own.options.artifact_types) == ((ARM,), ("b",))


def test_pins_of_all_hold() -> None:
    one, other = Digest.of(b"one"), Digest.of(b"other")
    found = together(entry(pins={Tag("1"): one}), entry("list:2", pins={Tag("1"): other}))
    assert found.pins == {one, other}


def test_a_tag_that_is_named_is_no_matter_of_the_list() -> None:
    def fail() -> list[str]:
        raise AssertionError

    digest = Digest.of(b"x")
    found = wanted_images.of_entry(
        entry(pins={Tag("2"): digest}, digests=(digest,)), CopyOptions(), fail
    )
    assert [(image.job.reference, image.job.tag) for image in found] == [
        (Tag("1"), Tag("1")),
        (Tag("2"), Tag("2")),
        (digest, None),
    ]


def test_names_in_the_target() -> None:
    full, path = CopyOptions(full_names=True), CopyOptions()
    name = RepositoryName("quay.io/ns/a")
    assert wanted_images.target_of(entry(), path) == NAME
    assert wanted_images.target_of(entry(), full) == name
    assert wanted_images.target_of(entry(full_names=True), path) == name
    assert wanted_images.target_of(entry(full_names=False), full) == NAME
    other = RepositoryName("other")
    assert wanted_images.target_of(entry(target=other), full) == other
