# SPDX-License-Identifier: Apache-2.0
"""What a pattern means, and what is none."""

from __future__ import annotations

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.patterns import Pattern, matches
from image_uploader_plugins.reference import RepositoryName, Tag

NAME = RepositoryName("ns/img")
TAG = Tag("1.0")
DIGEST = Digest.of(b"content")


@pytest.mark.parametrize(
    ("text", "all_of_it", "the_tag", "the_digest"),
    [
        ("ns/img", True, True, True),
        ("*", True, True, True),
        ("n?/im[fg]", True, True, True),
        ("ns", False, False, False),
        ("NS/*", False, False, False),
        ("ns/*:1.*", False, True, False),
        ("ns/*:2.*", False, False, False),
        ("other:1.0", False, False, False),
        (f"*@{DIGEST}", False, False, True),
        ("ns/img@sha256:*", False, False, True),
        ("ns/img@sha512:*", False, False, False),
        (f"ns/img:{DIGEST}", False, False, False),
    ],
)
def test_what_is_meant(text: str, all_of_it: bool, the_tag: bool, the_digest: bool) -> None:
    pattern = Pattern(text)
    assert pattern.fits(NAME) == all_of_it
    assert pattern.fits(NAME, TAG) == the_tag
    assert pattern.fits(NAME, DIGEST) == the_digest
    assert pattern.fits(NAME, TAG, DIGEST) == (the_tag or the_digest)


def test_a_repository_may_be_meant_for_one_of_its_tags() -> None:
    assert Pattern("ns/*:2.0").fits_repository(NAME)
    assert not Pattern("other:1.0").fits_repository(NAME)
    assert not Pattern("ns/*:2.0").whole


@pytest.mark.parametrize("text", ["", ":1.0", "@sha256:0", "ns/img:", "ns/img@"])
def test_an_empty_part_is_no_pattern(text: str) -> None:
    with pytest.raises(errors.InvalidReference, match="not a pattern of images"):
        Pattern(text)


def test_names_of_other_grammars_fit_as_a_whole() -> None:
    assert matches("docker.io/*", ["nginx:1", "docker.io/library/nginx:1"])
    assert not matches("nginx", ["docker.io/library/nginx:1"])
