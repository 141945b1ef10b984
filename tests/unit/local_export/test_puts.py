# SPDX-License-Identifier: Apache-2.0

import os
import threading

import pytest

from image_uploader_plugins.local_export import puts
from image_uploader_plugins.local_export.puts import Puts

LIMIT = 60  # seconds


@pytest.fixture
def under_way(monkeypatch: pytest.MonkeyPatch) -> Puts:
    monkeypatch.setattr(puts, "AT_MOST", LIMIT)
    return Puts()


def waiting(under_way: Puts) -> tuple[threading.Thread, threading.Event]:
    """A thread that waits, and whether it is done."""
    done = threading.Event()

    def wait() -> None:
        under_way.wait()
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, done


def test_without_other_puts_nobody_waits(under_way: Puts) -> None:
    under_way.wait()
    with under_way.one():
        pass
    under_way.wait()


def test_it_waits_for_those_that_have_begun(under_way: Puts) -> None:
    with under_way.one():
        thread, done = waiting(under_way)
        assert not done.is_set()
    thread.join(LIMIT)
    assert done.is_set()


def test_a_put_that_fails_is_not_waited_for(under_way: Puts) -> None:
    with pytest.raises(KeyError), under_way.one():
        raise KeyError
    under_way.wait()


def test_a_long_put_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(puts, "AT_MOST", 0.0)
    under_way = Puts()
    with under_way.one():
        under_way.wait()


def test_a_child_of_fork_waits_for_no_put_of_its_parent(under_way: Puts) -> None:
    with under_way.one():
        child = os.fork()
        if not child:
            under_way.wait()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
