# SPDX-License-Identifier: Apache-2.0
"""Registries that limit how much they are asked."""

from __future__ import annotations

import datetime
import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_uploader_plugins import errors
from image_uploader_plugins.sources.pauses import Pauses, retry_after
from tests.support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def pauses(clock: Clock) -> Pauses:
    return Pauses("quay.io", 60, clock, clock.sleep)


def go_on() -> None:
    """Nobody wants the wait to end."""


def test_nobody_waits_for_nothing(pauses: Pauses, clock: Clock) -> None:
    for _ in range(10):
        pauses.wait(go_on)
        pauses.succeeded({})
    assert clock.now == 100.0


def test_all_wait_as_long_as_one_was_told_to(pauses: Pauses, clock: Clock) -> None:
    turn = pauses.wait(go_on)
    pauses.refused({"Retry-After": "30"}, turn, turn)
    assert 130 <= pauses.wait(go_on) <= 132
    assert clock.now >= 130


def test_a_wait_is_spread(clock: Clock) -> None:
    ends = set()
    for _ in range(5):
        pauses = Pauses("x", 60, Clock(100.0), clock.sleep)
        pauses.refused({"Retry-After": "30"}, 100, 100)
        ends.add(pauses._until)
    assert len(ends) > 1


def test_without_a_word_it_waits_longer_each_time(pauses: Pauses, clock: Clock) -> None:
    waits = []
    for _ in range(4):
        before, turn = clock.now, pauses.wait(go_on)
        waits.append(clock.now - before)
        pauses.refused({}, turn, clock.now)
    assert waits[0] == 0
    assert waits[1] < waits[2] < waits[3]


def test_what_is_refused_together_counts_once(pauses: Pauses, clock: Clock) -> None:
    turns = [pauses.wait(go_on) for _ in range(20)]
    for turn in turns:
        clock.now += 0.01
        pauses.refused({}, turn, turn)
    assert pauses.wait(go_on) < 103


def test_requests_keep_a_distance_after_a_refusal(pauses: Pauses) -> None:
    pauses.refused({"Retry-After": "1"}, 100, 100)
    turns = [pauses.wait(go_on) for _ in range(3)]
    assert turns[0] < turns[1] < turns[2]
    for _ in range(1000):
        pauses.succeeded({})
    assert len({pauses.wait(go_on) for _ in range(3)}) <= 2  # and none after a while


def test_what_is_left_of_a_limit_is_not_used_up_at_once(pauses: Pauses) -> None:
    pauses.succeeded({"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "50;w=21600"})
    assert pauses.wait(go_on) == pauses.wait(go_on)
    pauses.succeeded({"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "9;w=21600"})
    assert pauses.wait(go_on) < pauses.wait(go_on)


def test_a_request_waits_for_so_long_in_all(pauses: Pauses, clock: Clock) -> None:
    with pytest.raises(errors.RateLimited, match=r"quay\.io limits.*wants 61 seconds.*60 at most"):
        pauses.refused({"Retry-After": "61"}, 100, 100)
    pauses.refused({"Retry-After": "40"}, 100, 100)
    turn = pauses.wait(go_on)
    with pytest.raises(errors.RateLimited, match="longest_pause"):
        pauses.refused({"Retry-After": "40"}, turn, 100)


def test_a_wait_can_be_ended(pauses: Pauses, clock: Clock) -> None:
    def check() -> None:
        if clock.now > 105:
            raise errors.Interrupted("enough")

    pauses.refused({"Retry-After": "50"}, 100, 100)
    with pytest.raises(errors.Interrupted):
        pauses.wait(check)
    assert clock.now < 106


NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("999999999", 999_999_999.0),
        (str(int(NOW) + 40), 40.0),
        (str(int(NOW) - 40), 0.0),
        ("9" * 400, 1e18 - NOW),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thursday, 01-Jan-26 12:00:30 GMT", 30.0),
        ("Thu Jan  1 12:00:30 2026", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        *((text, None) for text in ("", "soon", "-1", "1.5", "1e3", "\u0661", "12 May", "Thu,")),
    ],
)
def test_retry_after(text: str, expected: float | None) -> None:
    assert retry_after(text, lambda: NOW) == expected


def test_a_date_without_a_zone_means_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        assert retry_after("Thu Jan  1 12:00:30 2026", lambda: NOW) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2068, 12, 31)), st.data())
def test_each_form_of_a_date(moment: datetime.datetime, data: st.DataObject) -> None:
    """The three of RFC 9110, 5.6.7; what is past asks for nothing."""
    form = data.draw(
        st.sampled_from(
            ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        )
    )
    seconds = moment.replace(microsecond=0, tzinfo=datetime.UTC).timestamp()
    assert retry_after(moment.strftime(form), lambda: 0.0) == seconds
    assert retry_after(moment.strftime(form), lambda: seconds + 1) == 0.0


@given(
    st.one_of(
        st.text(max_size=40),
        st.text("0123456789+-:, GMTJanThu", max_size=60),
        st.integers().map(str),
        st.floats().map(str),
    )
)
def test_any_retry_after(text: str) -> None:
    found = retry_after(text)
    assert found is None or found >= 0


@given(st.integers(0, 4_000_000_000))
def test_a_date_that_is_written_is_read(moment: int) -> None:
    text = email.utils.formatdate(moment, usegmt=True)
    assert retry_after(text, lambda: 0.0) == moment


def test_a_pause_that_begins_meanwhile_counts_for_who_waits(pauses: Pauses, clock: Clock) -> None:
    """Their turn came before it, and is none any more."""
    pauses.refused({"Retry-After": "1"}, 100, 100)
    refusals = iter([True])

    def another() -> None:
        if next(refusals, False):
            pauses.refused({"Retry-After": "30"}, 100, 100)

    assert pauses.wait(another) >= 130
    assert clock.now >= 130


@pytest.mark.parametrize(
    ("headers", "slower"),
    [
        ({"RateLimit-Limit": "100", "RateLimit-Remaining": "10"}, False),
        ({"RateLimit-Limit": "100", "RateLimit-Remaining": "9"}, True),
        ({"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "0"}, True),
        ({"RateLimit-Limit": "5, 5;w=1", "RateLimit-Remaining": "0"}, True),
        ({"RateLimit-Remaining": "9"}, True),
        ({"RateLimit-Remaining": "11"}, False),
        ({"RateLimit-Remaining": "many"}, False),
        ({"RateLimit-Limit": "100"}, False),
        ({}, False),
    ],
)
def test_limits_as_registries_tell_them(
    pauses: Pauses, headers: dict[str, str], slower: bool
) -> None:
    pauses.succeeded(headers)
    assert (pauses.wait(go_on) < pauses.wait(go_on)) is slower


@pytest.mark.parametrize(
    ("reset", "distance"), [("20", 2.0), ("1", 0.1), ("21600", 5.0), ("1800000000", 1.0)]
)
def test_what_is_left_lasts_until_there_is_more(
    pauses: Pauses, reset: str, distance: float
) -> None:
    left = {"RateLimit-Limit": "100", "RateLimit-Remaining": "9", "RateLimit-Reset": reset}
    pauses.succeeded(left)
    turn = pauses.wait(go_on)
    assert pauses.wait(go_on) - turn == pytest.approx(distance)
