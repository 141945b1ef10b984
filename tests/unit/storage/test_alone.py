# SPDX-License-Identifier: Apache-2.0

import contextlib
import os
import threading

import pytest

from image_uploader_plugins.storage.alone import Alone

LIMIT = 30  # seconds after which whoever still waits is taken to wait for ever


class Other:
    """Another thread that wants a block of ``alone``, and then leaves it when told."""

    def __init__(self, alone: Alone) -> None:
        self.has_come = threading.Event()
        self._leave = threading.Event()
        self._alone = alone
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._alone.block():
            self.has_come.set()
            self._leave.wait(LIMIT)

    def leave(self) -> None:
        self._leave.set()
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()


def test_one_thread_at_a_time() -> None:
    alone = Alone()
    with alone.block():
        other = Other(alone)
        assert not other.has_come.wait(0.05)
    assert other.has_come.wait(LIMIT)
    other.leave()


def test_a_block_in_a_block_is_part_of_it() -> None:
    alone = Alone()
    with alone.block():
        with alone.block():
            pass
        other = Other(alone)
        assert not other.has_come.wait(0.05)
    other.leave()


def test_others_run_while_one_waits_and_it_goes_on_when_they_have_left() -> None:
    alone = Alone()
    gone = []

    def leave(other: Other) -> None:
        gone.append(other)
        other.leave()

    with alone.block():
        with alone.waiting():
            other = Other(alone)
            assert other.has_come.wait(LIMIT)
            left = threading.Thread(target=leave, args=[other])
            left.start()
        assert gone
        after = Other(alone)
        assert not after.has_come.wait(0.05)
    after.leave()


def test_waiting_outside_of_a_block_and_in_a_wait_is_nothing_special() -> None:
    alone = Alone()
    with alone.waiting():
        pass
    with alone.block(), alone.waiting(), alone.waiting():
        other = Other(alone)
        assert other.has_come.wait(LIMIT)
        other.leave()
    with alone.block():
        pass


def test_a_block_of_its_own_in_a_wait() -> None:
    """As one thread changes the catalog for all that wait for that."""
    alone = Alone()
    with alone.block(), alone.waiting():
        with alone.block():
            other = Other(alone)
            assert not other.has_come.wait(0.05)
        assert other.has_come.wait(LIMIT)
        other.leave()


@pytest.mark.parametrize("waits", [False, True])
def test_an_error_ends_the_turn(waits: bool) -> None:
    alone = Alone()
    with pytest.raises(KeyboardInterrupt), alone.block():
        if not waits:
            raise KeyboardInterrupt
        with alone.waiting():
            raise KeyboardInterrupt
    other = Other(alone)
    assert other.has_come.wait(LIMIT)
    other.leave()


def test_a_child_of_fork_does_not_wait_for_a_thread_of_its_parent() -> None:
    alone = Alone()
    other = Other(alone)
    assert other.has_come.wait(LIMIT)
    child = os.fork()
    if not child:
        with alone.block():
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    other.leave()


def test_a_signal_that_ends_the_wait_for_a_turn_takes_it_from_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = Alone()
    with pytest.raises(KeyboardInterrupt), alone.block(), alone.waiting():
        other = Other(alone)
        assert other.has_come.wait(LIMIT)
        monkeypatch.setattr(alone, "_take", interrupted)
    monkeypatch.undo()
    after = Other(alone)
    assert not after.has_come.wait(0.05)
    other.leave()
    assert after.has_come.wait(LIMIT)
    after.leave()


def interrupted() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("waits", [False, True])
def test_a_child_that_is_forked_in_a_block_has_turns_of_its_own(waits: bool) -> None:
    alone = Alone()
    with alone.block(), alone.waiting() if waits else contextlib.nullcontext():
        child = os.fork()
    if not child:
        other = Other(alone)
        os._exit(0 if other.has_come.wait(LIMIT) else 1)
    assert os.waitpid(child, 0)[1] == 0
    with alone.block():
        pass
