# SPDX-License-Identifier: Apache-2.0
"""Numbers in words, at their borders."""

from __future__ import annotations

import pytest

from image_uploader_plugins.units import age, clock, plural, rfc_3339, size


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_550_000, "1.6 MB"),
        (10**12, "1.0 TB"),
        (10**15, "1000.0 TB"),
    ],
)
def test_sizes_are_in_powers_of_1000(count: int, words: str) -> None:
    assert size(count) == words


def test_one_thing_is_no_plural() -> None:
    assert [plural(count, "tag") for count in (0, 1, 2)] == ["0 tags", "1 tag", "2 tags"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (119, "1 minute"),
        (3600, "1 hour"),
        (86400 * 364, "364 days"),
        (86400 * 800, "2 years"),
    ],
)
def test_an_age_is_in_its_largest_whole_unit(seconds: int, words: str) -> None:
    assert age(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "0:00"), (7.4, "0:07"), (3599.6, "1:00:00"), (3723, "1:02:03")]
)
def test_a_clock_shows_minutes_and_maybe_hours(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_a_moment_is_in_utc() -> None:
    assert rfc_3339(0.9) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("seconds", [1e20, float("inf"), float("nan")])
def test_a_moment_that_no_calendar_reaches_is_empty(seconds: float) -> None:
    assert rfc_3339(seconds) == ""
