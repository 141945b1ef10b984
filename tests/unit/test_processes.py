# SPDX-License-Identifier: Apache-2.0
"""Looking at many things in several processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from image_uploader_plugins import errors, processes
from image_uploader_plugins.meter import Meter

ITEMS = [f"item {number}" for number in range(700)]


def place(item: str) -> int:
    return int(item.partition(" ")[2])


def results(
    look: Callable[[str], int | None] = place, items: Sequence[str] = ITEMS, count: int = 3
) -> dict[str, int | None]:
    with processes.numbers(look, items, count, lambda: None) as found:
        return dict(found)


@pytest.fixture(autouse=True)
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The children of fork, none of which may be left; others' are servers of other tests."""
    made: list[int] = []
    fork = os.fork

    def forking() -> int:
        made.append(child := fork())
        return child

    monkeypatch.setattr(os, "fork", forking)
    yield made
    for child in made:
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_item_has_its_number(count: int) -> None:
    assert results(count=count) == {item: place(item) for item in ITEMS}


def test_fewer_items_than_processes() -> None:
    assert results(items=ITEMS[:2]) == {"item 0": 0, "item 1": 1}
    assert results(items=[]) == {}


def test_no_number_and_an_error_are_none() -> None:
    def look(item: str) -> int | None:
        if place(item) == 5:
            raise errors.StorageError(Path("/x"), "failed")
        return None if place(item) == 6 else 0

    found = results(look)
    assert {item for item, number in found.items() if number is None} == {"item 5", "item 6"}
    assert found.keys() == set(ITEMS)


def test_what_a_killed_process_had_to_look_at_is_none() -> None:
    def look(item: str) -> int:
        if place(item) == 0:  # later, what is known by then might not be told
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    found = results(look)
    assert found.keys() == set(ITEMS)
    # It had taken two items; the other processes have looked at the rest.
    assert {item for item, number in found.items() if number is None} == {"item 0", "item 1"}


def test_what_cannot_be_forked_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "too many processes")

    monkeypatch.setattr(os, "fork", fork)
    assert results() == dict.fromkeys(ITEMS)


def test_no_child_can_read_what_another_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else none would be told that the parent is gone."""
    made: list[tuple[int, int]] = []
    pipe = os.pipe

    def making() -> tuple[int, int]:
        made.append(pipe())
        return made[-1]

    monkeypatch.setattr(os, "pipe", making)

    def look(item: str) -> int:
        _, (reading, _) = made  # of the parts, and of the results
        with contextlib.suppress(OSError):
            os.fstat(reading)
            return 1
        return 0

    assert set(results(look).values()) == {0}
    assert len(made) == 2


def test_all_parts_fit_into_the_smallest_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has many pipes gets small ones, and to write more would wait forever."""
    pipe = os.pipe

    def small() -> tuple[int, int]:
        ends = pipe()
        assert fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 1) == os.sysconf("SC_PAGE_SIZE")
        return ends

    monkeypatch.setattr(os, "pipe", small)
    items = [f"item {number}" for number in range(1025)]
    assert results(items=items) == {item: place(item) for item in items}


def test_a_look_changes_nothing_here() -> None:
    seen: list[str] = []

    def look(item: str) -> int:
        seen.append(item)
        return 0

    assert len(results(look)) == len(ITEMS)
    assert seen == []


def test_a_stopped_meter_ends_all(tmp_path: Path) -> None:
    meter = Meter()
    fifo = tmp_path / "never"
    os.mkfifo(fifo)

    def look(item: str) -> int:
        fifo.read_bytes()  # waits for somebody who writes
        return 0

    with (
        pytest.raises(errors.Interrupted),
        processes.numbers(look, ITEMS, 2, _stopping(meter)) as found,
    ):
        for _ in found:
            pytest.fail("nothing was looked at")


def _stopping(meter: Meter) -> Callable[[], object]:
    def check() -> None:
        meter.check()
        meter.stop()

    return check


def test_whoever_takes_no_more_ends_all() -> None:
    with processes.numbers(place, ITEMS, 2, lambda: None) as found:
        assert next(found)


def test_processes_do_not_wait_for_who_takes_results(children: list[int]) -> None:
    with processes.numbers(place, ITEMS * 20, 2, lambda: None) as found:
        # Both end, though there are more results than a pipe usually holds.
        for child in children:
            os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert len(list(found)) == len(ITEMS) * 20


def test_buffers_of_the_parent_are_not_written(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        file.write("once")
        assert len(results()) == len(ITEMS)
    assert (tmp_path / "file").read_text() == "once"
