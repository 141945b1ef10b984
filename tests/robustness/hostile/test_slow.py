# SPDX-License-Identifier: Apache-2.0
"""Servers that give a byte now and then: each answer has a minimum rate, and an end.

No time passes: the server gives the next bytes when the client waits for
them, and the clock says how long that took.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from image_uploader_plugins import errors, pace
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.pace import Limits, Pace
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources import answers, session, tries
from tests.support.sources import source

BODY = hashlib.shake_128(b"content").digest(5000)
BLOB = Descriptor("application/octet-stream", Digest.of(BODY), len(BODY))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY)


class Clock:
    """Seconds that pass whenever somebody waits for bytes: ``step`` each time."""

    def __init__(self, step: float) -> None:
        self.step = step
        self.now = 1000.0
        self.reads = 0
        self.wanted = threading.Semaphore(0)

    def __call__(self) -> float:
        return self.now

    def limited(self, server: str, limits: Limits) -> Pace:
        clock = self

        class Watched(Pace):
            def wait(self) -> None:
                super().wait()
                clock.reads += 1
                clock.now += clock.step
                clock.wanted.release()

        return Watched(server, limits, self)


@contextlib.contextmanager
def giving(pieces: Callable[[], Iterator[bytes]], clock: Clock) -> Iterator[str]:
    """A server that answers everybody with ``pieces``, each when it is waited for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def answer() -> None:
            while not done.is_set():
                with contextlib.suppress(OSError):
                    connection, _ = listening.accept()
                    with connection:
                        _answer(connection)

        def _answer(connection: socket.socket) -> None:
            connection.recv(65536)
            for piece in pieces():
                while not clock.wanted.acquire(timeout=0.05):
                    if done.is_set() or _has_gone(connection):
                        return
                if _has_gone(connection):
                    clock.wanted.release()  # that was somebody else's
                    return
                connection.sendall(piece)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield "{}:{}".format(*listening.getsockname())
        done.set()
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    assert not thread.is_alive()


def _has_gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def bytewise(content: bytes) -> Iterator[bytes]:
    return (content[at : at + 1] for at in range(len(content)))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(2.0)
    monkeypatch.setattr(session, "Pace", clock.limited)
    return clock


def get(url: str, **limits: int) -> bytes | None:
    with session.Session(Limits(**limits)) as asking, asking.send("GET", url, {}) as response:
        return answers.whole(response, len(BODY))


def test_a_blob_that_drips(clock: Clock) -> None:
    with giving(lambda: iter([HEAD, *bytewise(BODY)]), clock) as where:
        fetching = source(where, "ns/img")
        with pytest.raises(errors.TransferTooSlow) as caught:
            list(fetching.blob(BLOB))
    assert clock.reads == 5 * (1 + 15)  # five times the head, and 30 seconds
    text = str(caught.value)
    assert f"{where}/v2/ns/img/blobs/{BLOB.digest} is too slow" in text
    assert "15 bytes in 30 seconds, which is less than 1024 bytes a second" in text
    assert caught.value.retryable
    assert str(pickle.loads(pickle.dumps(caught.value))) == text  # noqa: S301 - our own


def test_a_manifest_that_drips_is_tried_again_so_often(clock: Clock) -> None:
    begun = []

    def pieces() -> Iterator[bytes]:
        begun.append(clock.reads)
        yield HEAD
        yield from bytewise(BODY)

    with giving(pieces, clock) as where:
        fetching = source(where, "ns/img")
        with pytest.raises(errors.TransferTooSlow, match="manifests/1"):
            fetching.manifest(Tag("1"))
    assert len(begun) == 5


def test_headers_that_drip(clock: Clock) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 500 + b"\r\n\r\n"
    with (
        giving(lambda: bytewise(head), clock) as where,
        pytest.raises(errors.TransferTooSlow, match="bytes in 30 seconds"),
    ):
        get(f"http://{where}/token?service=secret")


def test_a_body_that_drips(clock: Clock) -> None:
    with (
        giving(lambda: iter([HEAD, *bytewise(BODY)]), clock) as where,
        pytest.raises(errors.TransferTooSlow) as caught,
    ):
        assert get(f"http://{where}/token?service=secret") == BODY
    assert "secret" not in str(caught.value)


def test_the_rate_is_an_average(clock: Clock) -> None:
    """A server that pauses, and is fast in between, is not slow."""
    pieces = [BODY[at : at + 500] for at in range(0, len(BODY), 500)]
    clock.step = 7.0  # ten pieces: 70 seconds
    with giving(lambda: iter([HEAD, *pieces]), clock) as where:
        got = get(f"http://{where}/", minimum_rate=71)
    assert got == BODY


@pytest.mark.parametrize(("rate", "ends"), [(72, True), (71, False)])
def test_the_rate_is_the_one_that_is_asked_for(clock: Clock, rate: int, ends: bool) -> None:
    pieces = [BODY[at : at + 500] for at in range(0, len(BODY), 500)]
    clock.step = 7.0
    expected = pytest.raises(errors.TransferTooSlow) if ends else contextlib.nullcontext()
    with giving(lambda: iter([HEAD, *pieces]), clock) as where, expected:
        assert get(f"http://{where}/", minimum_rate=rate) == BODY


def test_a_server_that_thinks_before_it_answers_is_not_slow(clock: Clock) -> None:
    """The wait for the first byte has a timeout of its own."""
    clock.step = 29.0
    small = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    with giving(lambda: iter([small, b"{}"]), clock) as where:
        assert get(f"http://{where}/") == b"{}"


def test_a_target_that_is_slow_is_not_the_servers_fault(clock: Clock) -> None:
    clock.step = 0.1
    pieces = [BODY[at : at + 50] for at in range(0, len(BODY), 50)]
    with (
        giving(lambda: iter([HEAD, *pieces]), clock) as where,
        session.Session().send("GET", f"http://{where}/", {}) as response,
    ):
        got = b""
        for chunk in answers.chunks(response):
            clock.now += 100.0  # a disk that takes its time
            got += chunk
    assert got == BODY


@pytest.mark.slow
def test_an_answer_ends_in_time_at_whatever_rate(clock: Clock) -> None:
    """And is not asked for again, which would take as long."""
    clock.step = 100.0
    with giving(lambda: iter([HEAD, *bytewise(BODY)]), clock) as where:
        fetching = source(where, "x", limits=Limits(minimum_rate=0, deadline=1000))
        with pytest.raises(errors.TransferTooSlow, match="not done after 1000 seconds") as caught:
            list(fetching.blob(BLOB))
    assert clock.reads == 10
    assert not caught.value.retryable


def test_both_limits_can_be_switched_off(clock: Clock) -> None:
    clock.step = 10_000.0
    with giving(lambda: iter([HEAD, *bytewise(BODY)]), clock) as where:
        assert get(f"http://{where}/", minimum_rate=0, deadline=0) == BODY


def test_the_connection_of_a_slow_server_is_not_used_again(clock: Clock) -> None:
    with (
        giving(lambda: iter([HEAD, *bytewise(BODY)]), clock) as where,
        session.Session() as asking,
    ):
        with (
            pytest.raises(errors.TransferTooSlow),
            asking.send("GET", f"http://{where}/one", {}) as response,
        ):
            answers.whole(response, len(BODY))
        clock.step = 0.0
        with asking.send("GET", f"http://{where}/two", {}) as response:
            assert answers.whole(response, len(BODY)) == BODY


def test_the_real_clock_is_one_that_is_never_set_back() -> None:
    defaults = Pace.__init__.__defaults__ or ()
    assert [getattr(clock, "__name__", "") for clock in defaults] == ["monotonic"]
    assert (pace.MINIMUM_RATE, pace.DEADLINE) == (1024, 6 * 3600)
