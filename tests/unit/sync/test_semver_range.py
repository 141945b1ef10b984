# SPDX-License-Identifier: Apache-2.0
"""Ranges of versions mean what they mean to skopeo."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_uploader_plugins import errors
from image_uploader_plugins.sync.semver_range import SemverRange

VERSIONS = st.tuples(*[st.integers(0, 3)] * 3).map(lambda n: ".".join(map(str, n)))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("1.2.3", "1.2.3 v1.2.3", "1.2.4 1.2.3-1 1.2.3.0"),
        ("=1.2", "1.2 1.2.9", "1.3.0 1.1.9"),
        ("1.2.x", "1.2 1.2.9", "1.3"),
        ("1.X", "1.0 1.9.9", "2.0.0 0.9"),
        ("*", "0 1.2.3", "latest 1.0-rc1"),
        (">=1.7, <2", "1.7 v1.9.3 1.10.0", "1.6.9 2 1.8-rc1 1.8_amd64 latest v"),
        (">=1.7 <2", "1.7.0 1.10", "2.0.0"),
        (">= 1.7,<2", "1.7.0 1.10", "2.0.0"),
        ("=>1.7 =<1.9", "1.7 1.9.9", "1.10"),
        (">11", "12", "11 11.1"),
        (">11.1", "11.2 12", "11.1 11.1.9"),
        (">1.2.3", "1.2.4", "1.2.3"),
        ("<11", "10.9", "11"),
        ("<=11", "11 11.9", "12"),
        ("<=11.2", "11.2.7 10", "11.3"),
        ("!=1.2 >=1 <2", "1.1 1.3", "1.2 1.2.5"),
        ("!=1.2.3", "1.2.4", "1.2.3 v1.2.3"),
        ("~1", "1.0 1.9", "2.0"),
        ("~1.2", "1.2 1.2.9", "1.3"),
        ("~>1.2.3", "1.2.3 1.2.9", "1.2.2 1.3"),
        ("^1.2.3", "1.2.3 1.9", "1.2.2 2.0"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3 1.0"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("^0.0", "0.0 0.0.9", "0.1"),
        ("^0", "0.0.1 0.9", "1.0"),
        ("1.2 - 1.4.5", "1.2 1.4.5", "1.1.9 1.4.6"),
        ("1.2 - 1.4", "1.4.9", "1.5"),
        ("1.2 - 1.4 || >3", "1.3 4", "2 3.1"),
        (">=1.27-0", "1.27-alpine 1.27.0-rc1 1.28", "1.26"),
        (">=1.7-0 <2", "1.8-rc1 1.9", "1.6 2.0"),
        ("<2, >=1.7-0", "1.8-rc1 1.9", "1.6 2.0"),
        (">=1.0-0 || 2.0", "1.5-rc1 2.0", "0.9"),
        ("2.0 || >=1.0-rc.2", "1.0.0-rc.10 1.0.0", "1.0.0-rc.1 1.0.0-beta"),
        ("^1.2.3-0", "1.2.3-rc1 1.9.0-rc1", "2.0.0-rc1"),
        ("1.2-beta", "1.2.0-beta 1.2.0-rc1 1.2.1", "1.2.0-alpha 1.3.0"),
    ],
)
def test_what_is_inside(text: str, inside: str, outside: str) -> None:
    versions = SemverRange(text)
    assert [each for each in inside.split() if not versions.has(each)] == []
    assert [each for each in outside.split() if versions.has(each)] == []


@pytest.mark.parametrize(
    "text",
    ["", " ", ">", "a", "1.2 ||", ">>1", "1.2.3.4", "1.2 -", "=v", "1..2", "1.2;", "1" * 2000],
)
def test_no_range(text: str) -> None:
    with pytest.raises(errors.InvalidReference, match="range of versions"):
        SemverRange(text)


@given(st.text("0123456789.xX*v-+<>=~^|, a", max_size=20), st.text("0123456789.v-a", max_size=12))
def test_every_text_is_a_range_or_none(text: str, tag: str) -> None:
    try:
        found = SemverRange(text).has(tag)
    except errors.InvalidReference:
        return
    assert not found or re.match(r"v?[0-9]", tag)


@given(VERSIONS, VERSIONS)
def test_comparisons_agree(one: str, other: str) -> None:
    def has(text: str) -> bool:
        return SemverRange(text).has(one)

    assert [has(f"<{other}"), has(f"={other}"), has(f">{other}")].count(True) == 1
    assert has(f"<={other}") == (has(f"<{other}") or has(other))
    assert has(f">={other}") == (has(f">{other}") or has(other))
    assert has(f"!={other}") != has(f"={other}")
    assert has(f"{other} - 3.3.3") == (has(f">={other} <=3.3.3"))
    assert has(f"~{other}") <= has(f">={other}")
    assert has(f"^{other}") <= has(f">={other}")
