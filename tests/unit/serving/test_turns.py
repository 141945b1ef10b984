# SPDX-License-Identifier: Apache-2.0
"""One thread works at a time, and another one where a step takes long."""

from __future__ import annotations

import pytest

from image_uploader_plugins.serving.turns import Turns


def test_a_turn_stays_while_its_steps_are_short() -> None:
    turns = Turns()
    turns.offer()
    turn = turns.wait()
    assert turn is not None
    for _ in range(3):
        with turns.step(turn):
            turns.relieve(3600)
        turns.relieve(-1)  # between two steps
        assert turns.is_present(turn)


def test_a_long_step_loses_the_turn_once() -> None:
    turns = Turns()
    turns.offer()
    first = turns.wait()
    assert first is not None
    with turns.step(first):
        for _ in range(3):
            turns.relieve(-1)
        assert not turns.is_present(first)
        second = turns.wait()
        assert second is not None
        with turns.step(second):
            turns.relieve(3600)
        assert turns.is_present(second)
    # The end of the first step does not hide that the second turn's takes long.
    with turns.step(second):
        turns.relieve(-1)
    assert not turns.is_present(second)


def test_a_step_that_fails_is_over() -> None:
    turns = Turns()
    turns.offer()
    turn = turns.wait()
    assert turn is not None
    with pytest.raises(ValueError, match="x"), turns.step(turn):
        raise ValueError("x")
    turns.relieve(-1)
    assert turns.is_present(turn)


def test_nobody_goes_on_after_the_end() -> None:
    turns = Turns()
    turns.offer()
    turn = turns.wait()
    assert turn is not None
    turns.end(2)
    assert not turns.is_present(turn)
    assert [turns.wait(), turns.wait()] == [None, None]
