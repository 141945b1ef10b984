# SPDX-License-Identifier: Apache-2.0
"""The order of versions in tags, and which of them are the newest."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version as PythonVersion

from image_uploader_plugins.versions import Version, newest, version

NUMBERS = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(lambda n: ".".join(map(str, n)))
SUFFIXES = st.sampled_from(
    [
        *("", "-rc1", "-rc.2", "rc1", "-alpha", "-beta.3", ".dev1", ".post2", "-alpine"),
        *("-alpine3.20", "_amd64", "-r0", "-k3s1", "-debian-12-r5", "-20240904", "-SNAPSHOT"),
        *("-nightly.7", "-1a2b3c4"),
    ]
)
PREFIXES = st.sampled_from(["", "v", "V", "release-", "release-v", "RELEASE.", "main-1a2b3c4-"])
TAGS = st.builds("".join, st.tuples(PREFIXES, NUMBERS, SUFFIXES)) | st.text(
    "abcdefrv0123456789._-", min_size=1, max_size=12
)


def found(text: str) -> Version:
    """The version of a text that has one."""
    of_text = version(text)
    assert of_text
    return of_text


@pytest.mark.parametrize(
    "texts",
    [
        # PEP 440, "Summary of permitted suffixes and relative ordering".
        "1.0.dev1 1.0a1.dev1 1.0a1 1.0a2 1.0b1 1.0rc1.dev2 1.0rc1 1.0 1.0.post1 1.0.1 1.1 1.10",
        # Semantic Versioning 2.0, 11.
        "1.0.0-alpha 1.0.0-alpha.1 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 2.0.0",
        "v1.9.0 1.10.0 V1.11",
        "2.0.0-SNAPSHOT 2.0.0-milestone1 2.0.0-CR1 2.0.0",
        "1.27.2-alpine 1.27.3-rc1-alpine 1.27.3-alpine",
        "1.27.3-alpine3.9 1.27.3-alpine3.20",
        "1.27.3-debian-12-r9 1.27.3-debian-12-r10",
        "v1.30.4-rc1-k3s1 v1.30.4-k3s1 v1.30.4-k3s2 v1.31.0-k3s1",
        "2023-12-31 2024-01-01 2024-01-02",
        "noble-20231231 noble-20240101",
        "RELEASE.2024-08-29T01-40-52Z RELEASE.2024-09-04T10-00-00Z",
        "main-1a2b3c4-1725400000 main-0f9e8d7-1725400001",
        "v1.2-9-gabcdef1 v1.2-10-g1234abc",
        "8u302-jdk 8u402-jdk 11u2-jdk",
    ],
)
def test_the_order_of_one_line(texts: str) -> None:
    versions = [found(text) for text in texts.split()]
    assert sorted(versions) == versions
    assert len(set(versions)) == len(versions)
    assert len({each.line for each in versions}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.27", "1.27-alpine"),
        ("1.27", "20240904"),
        ("1.27-alpine", "1.27-perl"),
        ("1.27_amd64", "1.27_arm64"),
        ("noble-20240904", "jammy-20240904"),
        ("1.1.1a", "1.1.1"),
        ("12a3", "12"),
    ],
)
def test_others_are_of_two_lines(one: str, other: str) -> None:
    assert found(one).line != found(other).line


@pytest.mark.parametrize("texts", ["1.0 1.0.0 v1 V1.0", "1.0rc1 1.0-rc.1 1.0.0-RC1", "1_rc1 1.rc1"])
def test_the_same_version_may_be_written_in_several_ways(texts: str) -> None:
    assert len({found(text) for text in texts.split()}) == 1


@pytest.mark.parametrize(
    "text",
    ["", "latest", "stable-alpine", "1a2b3c4", "sha-1a2b3c4d5e", "main-deadbeef1", "1" * 999],
)
def test_no_version(text: str) -> None:
    assert version(text) is None


@given(
    st.lists(NUMBERS, min_size=2, max_size=2), st.lists(st.integers(0, 20), min_size=4, max_size=4)
)
def test_it_is_the_order_of_python_where_python_has_one(
    releases: list[str], counts: list[int]
) -> None:
    """PEP 440, but for its epochs and local versions, which no tag can have."""
    marks = ["", *(f"{word}{count}" for word in ("a", "b", "rc") for count in counts[:2])]
    ends = ["", *(f".{word}{count}" for word in ("post", "dev") for count in counts[2:4])]
    texts = [
        f"{release}.0{mark}{end}" for release, mark, end in itertools.product(releases, marks, ends)
    ]
    for one, other in itertools.combinations(texts, 2):
        ours, theirs = (found(one), found(other)), (PythonVersion(one), PythonVersion(other))
        assert (ours[0] < ours[1]) == (theirs[0] < theirs[1]), (one, other)
        assert (ours[0] == ours[1]) == (theirs[0] == theirs[1]), (one, other)


@given(st.lists(TAGS, min_size=3, max_size=3))
def test_the_order_is_total(texts: list[str]) -> None:
    versions = [each for each in map(version, texts) if each]
    for one, other in itertools.product(versions, repeat=2):
        assert (one < other) + (one == other) + (one > other) == 1
    for one, other, third in itertools.permutations(versions, 3):
        assert not (one < other < third) or one < third


@pytest.mark.parametrize(
    ("texts", "count", "expected"),
    [
        ("1.9 1.10 1.8 latest", 2, "1.9 1.10"),
        ("1.9 1.10", 5, "1.9 1.10"),
        # The name of a series comes along with the newest in it.
        ("1 1.27 1.27.3 1.27.2 1.26 1.26.3", 2, "1 1.27 1.27.3 1.27.2"),
        ("1.27 1.27.3 1.26.3 1.25", 2, "1.27 1.27.3 1.26.3"),
        ("17 16 15 17.0 16.4 16.3 15.8", 3, "17 16 17.0 16.4 16.3"),
        ("16-alpine 16.4-alpine 15-alpine 15.8-alpine 16", 1, "16-alpine 16.4-alpine 16"),
        ("v1.27.0 1.27.0 1.26", 1, "v1.27.0 1.27.0"),
        # A variant does not push another one out.
        ("1.27 1.26 1.27-alpine 1.26-alpine 1.25-perl", 1, "1.27 1.27-alpine 1.25-perl"),
        ("1.27-alpine3.19 1.27-alpine3.20 1.26-alpine3.20", 1, "1.27-alpine3.20"),
        # What comes before a release counts just where there is none.
        ("3.0.0-rc.1 3.0.0-rc.2 2.55.1 2.55.0", 2, "2.55.1 2.55.0"),
        ("3.0.0-rc.1 3.0.0-rc.2 3.0.0-beta", 2, "3.0.0-rc.1 3.0.0-rc.2"),
        ("3 3.0.0-rc.1", 1, "3"),
        ("1.2 1.3 20240101 20240102", 1, "1.3 20240102"),
    ],
)
def test_the_newest(texts: str, count: int, expected: str) -> None:
    assert newest(texts.split(), count) == set(expected.split())


@given(st.sets(TAGS, max_size=30), st.integers(1, 5))
def test_what_is_left_out_is_never_newer(texts: set[str], count: int) -> None:
    kept = newest(texts, count)
    assert kept <= texts
    for line in {found(text).line for text in kept}:
        of_line = {text for text in texts if (each := version(text)) and each.line == line}
        releases = {text for text in of_line if not found(text).is_prerelease} or of_line
        series = {name for text in releases for name in found(text).series}
        single = {t for t in releases if (found(t).written, found(t).others) not in series}
        inside = {found(text) for text in single & kept}
        outside = {found(text) for text in single - kept}
        assert len(inside) == count or not outside
        assert not outside or min(inside) > max(outside)
        assert max(map(found, releases)) in set(map(found, kept))
