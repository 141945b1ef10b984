# SPDX-License-Identifier: Apache-2.0

import os
import threading
from collections.abc import Iterator

import pytest

from image_uploader_plugins.storage.rounds import Rounds

LIMIT = 60  # seconds


class Work:
    """Work whose first call waits until ``go_on`` is set; ``calls`` are the items of each."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.fails = False

    def __call__(self, items: list[str]) -> None:
        self.calls.append(list(items))
        if len(self.calls) == 1:
            self.begun.set()
            assert self.go_on.wait(LIMIT)
        elif self.fails:
            raise OSError("broken")


@pytest.fixture
def work() -> Work:
    return Work()


class Members:
    """Threads that join a round; ``errors`` are what they end with."""

    def __init__(self, rounds: Rounds[str]) -> None:
        self._rounds = rounds
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []
        self.joined = threading.Semaphore(0)

    def join(self, item: str) -> None:
        def items() -> Iterator[str]:
            yield item
            self.joined.release()

        def target() -> None:
            try:
                self._rounds.join(items())
            except BaseException as e:
                self.errors.append(e)

        self._threads.append(threading.Thread(target=target))
        self._threads[-1].start()

    def end(self) -> None:
        for thread in self._threads:
            thread.join(LIMIT)
            assert not thread.is_alive()


def gathered(rounds: Rounds[str], work: Work, names: str) -> Members:
    """Begin a call, have others join meanwhile, and wait until all of them have."""
    members = Members(rounds)
    members.join("first")
    assert work.begun.wait(LIMIT)
    for name in names:
        members.join(name)
    for _ in ("first", *names):
        assert members.joined.acquire(timeout=LIMIT)
    return members


def test_one_call_serves_all_that_came_during_another(work: Work) -> None:
    members = gathered(Rounds(work), work, "abc")
    work.go_on.set()
    members.end()
    assert [sorted(items) for items in work.calls] == [["first"], ["a", "b", "c"]]
    assert members.errors == []


def test_an_error_is_told_to_all_of_its_round_and_to_nobody_else(work: Work) -> None:
    work.fails = True
    members = gathered(Rounds(work), work, "abc")
    work.go_on.set()
    members.end()
    assert [type(e) for e in members.errors] == [OSError] * 3
    assert len({id(e) for e in members.errors}) == 3


def test_an_interrupted_thread_interrupts_no_other(work: Work) -> None:
    def interrupted(items: list[str]) -> None:
        work(items)
        if len(work.calls) == 2:
            raise KeyboardInterrupt

    members = gathered(Rounds(interrupted), work, "ab")
    work.go_on.set()
    members.end()
    assert sorted(type(e).__name__ for e in members.errors) == ["KeyboardInterrupt", "RuntimeError"]


def test_a_child_of_fork_does_not_wait_for_its_parents_round(work: Work) -> None:
    rounds = Rounds(work)
    members = gathered(rounds, work, "a")
    child = os.fork()
    if not child:
        rounds.join(["child"])
        os._exit(0 if work.calls[-1] == ["child"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    work.go_on.set()
    members.end()


def test_those_that_join_while_others_are_gathered_are_in_the_same_call() -> None:
    calls: list[list[str]] = []
    gathering, go_on = threading.Event(), threading.Event()

    def gather() -> None:
        gathering.set()
        assert go_on.wait(LIMIT)

    rounds: Rounds[str] = Rounds(calls.append, gather)
    members = Members(rounds)
    members.join("first")
    assert gathering.wait(LIMIT)
    members.join("second")
    for _ in range(2):
        assert members.joined.acquire(timeout=LIMIT)
    go_on.set()
    members.end()
    assert calls == [["first", "second"]]


def test_a_round_that_was_interrupted_before_its_call_is_over() -> None:
    calls: list[list[str]] = []
    interrupts = [KeyboardInterrupt()]

    def gather() -> None:
        if interrupts:
            raise interrupts.pop()

    rounds: Rounds[str] = Rounds(calls.append, gather)
    with pytest.raises(KeyboardInterrupt):
        rounds.join(["first"])
    rounds.join(["second"])
    assert calls == [["second"]]
