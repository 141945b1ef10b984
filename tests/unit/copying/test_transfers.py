# SPDX-License-Identifier: Apache-2.0
"""The threads that blobs come by: how many there are, what comes first, and who waits."""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from collections.abc import Iterator

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.transfers import Transfer, Transfers
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor

DEADLINE = 60  # seconds


def blob(name: str, size: int | None = 1) -> Descriptor:
    return Descriptor(media_types.OCTET_STREAM, Digest.of(name.encode()), size)


class Held:
    """Work that lasts until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def __call__(self, transfer: Transfer) -> None:
        self.begun.set()
        assert self.let_go.wait(DEADLINE)


@pytest.fixture
def held() -> Iterator[Held]:
    found = Held()
    yield found
    found.let_go.set()


def test_the_largest_is_first(held: Held) -> None:
    done: list[str] = []
    sizes = {"unknown": None, "small": 1, "large": 3, "middle": 2, "as large": 3}
    with Transfers(workers=1) as transfers:
        transfers.begin(blob("held"), held)
        assert held.begun.wait(DEADLINE)
        for name, size in sizes.items():
            transfers.begin(blob(name, size), functools.partial(_note, done, name))
        held.let_go.set()
    assert done == ["large", "as large", "middle", "small", "unknown"]


def _note(done: list[str], name: str, _: Transfer) -> None:
    done.append(name)


def test_a_content_is_on_its_way_once(held: Held) -> None:
    with Transfers(workers=2) as transfers:
        first, is_new = transfers.begin(blob("a"), held)
        assert is_new
        assert transfers.begin(blob("a"), held) == (first, False)
        held.let_go.set()
        assert first.wait()
        # Whoever comes after its end begins it anew: the content may be gone.
        other, is_new = transfers.begin(blob("a"), lambda _: None)
        assert is_new
        assert other is not first


def test_what_failed_or_was_cancelled_did_not_come(held: Held) -> None:
    def fail(_: Transfer) -> None:
        raise TimeoutError

    with Transfers(workers=1) as transfers:
        failing, _ = transfers.begin(blob("failing"), fail)
        assert not failing.wait()
        transfers.begin(blob("held"), held)
        assert held.begun.wait(DEADLINE)
        cancelled, _ = transfers.begin(blob("cancelled"), held)
        assert cancelled.future.cancel()
        assert not cancelled.wait()
        again, is_new = transfers.begin(blob("cancelled"), lambda _: None)
        assert is_new
        held.let_go.set()
        assert again.wait()


def test_nobody_waits_for_one_that_is_stuck(held: Held) -> None:
    with Transfers(workers=2, patience=0.05) as transfers:
        stuck, _ = transfers.begin(blob("a"), held)
        assert held.begun.wait(DEADLINE)
        assert not stuck.wait()
        beside, is_new = transfers.begin(blob("a"), lambda _: None)
        assert is_new
        assert beside.future.result(DEADLINE) is None  # or it might be taken to be stuck, too
        assert beside.wait()
        held.let_go.set()


def test_one_that_makes_progress_or_has_not_begun_is_waited_for(held: Held) -> None:
    looks = 0

    class Received(Transfer):
        """More has come at each look."""

        @property
        def received(self) -> int:
            nonlocal looks
            looks += 1
            if looks > 6:
                held.let_go.set()
            return looks * 2**20

        @received.setter
        def received(self, count: int) -> None:
            pass

    transfer = Received(held, 0.01)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(transfer.wait)
        transfer.run()
        assert waiting.result(DEADLINE)
    assert not transfer.is_stuck


def test_none_begins_after_the_end() -> None:
    """An image that waited for a silent server may come back when nobody waits for it."""
    transfers = Transfers()
    transfers.close()
    with pytest.raises(errors.Interrupted):
        transfers.begin(blob("a"), lambda _: None)
