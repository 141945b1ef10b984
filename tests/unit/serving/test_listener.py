# SPDX-License-Identifier: Apache-2.0
"""Clients of the embedded server that are slow, silent or too many.

The limits are made small, so that each is met; no test measures time.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import resource
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.serving import connection, listener
from image_uploader_plugins.serving.application import TreeServer
from image_uploader_plugins.serving.connection import READ, WRITE, Connection
from image_uploader_plugins.serving.turns import Turns
from image_uploader_plugins.testing import images
from tests.support import raw, tls, trees

BLOB = "sha256:" + "0" * 64
SIZE = 256 * 1024 * 1024
IMAGE = images.corpus()[0]
WHOLE = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = f"GET /v2/{IMAGE.repository}/blobs/{BLOB} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
# Of these, ten places are for clients that are waited for and twenty for answers.
FIFTY = listener._RESERVED + 50
ONE, OTHER = "127.0.0.1", "127.0.0.2"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("listener") / "tree"
    with LocalExportDriver(root) as driver:
        trees.put(driver, IMAGE)
    with (root / "v2" / IMAGE.repository.value / "blobs" / BLOB).open("wb") as blob:
        blob.truncate(SIZE)
    return root


class Clients:
    """Connections from several addresses of this machine, all closed in the end."""

    def __init__(self, server: str, stack: contextlib.ExitStack) -> None:
        host, _, port = server.rpartition(":")
        self.server = (host, int(port))
        self._stack = stack

    def new(self, said: bytes = b"", address: str = ONE) -> socket.socket:
        client = socket.create_connection(self.server, raw.TIMEOUT, (address, 0))
        self._stack.enter_context(client)
        client.sendall(said)
        return client

    def reader(self, address: str = ONE) -> socket.socket:
        """Return a client whose answer has begun, and who takes no more of it."""
        client = self.new(LARGE, address)
        assert client.recv(1)
        return client


@pytest.fixture
def serve(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Clients]]:
    """Start the server with small limits; one thread unless another number is given."""
    with contextlib.ExitStack() as servers, contextlib.ExitStack() as clients:

        def start(tls: ssl.SSLContext | None = None, **limits: float) -> Clients:
            for name, value in {"_THREADS": 1, "_TICK": 0.05, **limits}.items():
                home = listener if hasattr(listener, name) else connection
                monkeypatch.setattr(home, name, value)
            return Clients(servers.enter_context(listener.serving(tree, tls)), clients)

        yield start


def ended(client: socket.socket) -> bool:
    """Wait for the server to close a connection, whatever it says before."""
    with contextlib.suppress(ConnectionError):
        while client.recv(1024 * 1024):
            pass
    return True


def answers(client: socket.socket) -> bool:
    client.sendall(WHOLE)
    return client.recv(65536).startswith(b"HTTP/1.1 200")


def test_silent_clients_hold_no_thread(serve: Callable[..., Clients]) -> None:
    clients = serve()
    for said in (b"", b"G", b"GET /v2/ HTTP/1.1\r\nHost:", b"\r\n"):
        clients.new(said)
    assert answers(clients.new())


def test_slow_readers_hold_no_thread(serve: Callable[..., Clients]) -> None:
    clients = serve()
    readers = [clients.reader() for _ in range(5)]
    newest = clients.new()
    for _ in range(3):
        assert answers(newest)
    assert len({reader.recv(1) for reader in readers}) == 1


def test_one_thread_answers_everybody(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no step takes long, no thread waits for another one."""
    threads: list[int] = []
    monkeypatch.setattr(listener, "_LONG", 3600)
    log = functools.partial(_append_thread, threads)
    with listener.serving(tree, log=log) as server, contextlib.ExitStack() as stack:
        clients = [Clients(server, stack).new() for _ in range(20)]
        for _ in range(5):
            for client in clients:
                client.sendall(WHOLE)
            for client in clients:
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert len(threads) == 100
    assert len(set(threads)) == 1


def _append_thread(threads: list[int], line: str) -> None:
    threads.append(threading.get_ident())


def test_a_step_that_takes_long_holds_nobody(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk keeps one thread after another, as long as one is left, it answers."""
    go_on = threading.Event()

    def log(line: str) -> None:
        if "slow" in line:
            assert go_on.wait(raw.TIMEOUT)

    slow = WHOLE.replace(b"/v2/", b"/v2/slow")
    for name, value in (("_LONG", 0.01), ("_THREADS", 4)):
        monkeypatch.setattr(listener, name, value)
    with listener.serving(tree, log=log) as server, contextlib.ExitStack() as stack:
        clients = Clients(server, stack)
        kept = [clients.new(slow + WHOLE) for _ in range(3)]
        other = clients.new()
        try:
            assert all(map(answers, [other, clients.new(), other]))
        finally:
            go_on.set()
        for client in kept:
            answer = b""
            while b" 200 OK" not in answer:
                answer += client.recv(65536)
        assert answers(other)


def test_a_turn_lost_while_waiting(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thread was told of, its turn being another's by then, the other one does."""
    lose, lost = threading.Event(), threading.Semaphore(0)

    class Impatient(Turns):
        def relieve(self, seconds: float) -> None:
            if lose.is_set():
                lose.clear()
                self.offer()
                lost.release()

    for name, value in (("_LONG", 0.01), ("Turns", Impatient)):
        monkeypatch.setattr(listener, name, value)
    with listener.serving(tree) as server, contextlib.ExitStack() as stack:
        client = Clients(server, stack).new()
        for _ in range(5):
            assert answers(client)
            lose.set()
            assert lost.acquire(timeout=raw.TIMEOUT)


def test_silent_clients_of_tls(serve: Callable[..., Clients], tmp_path: Path) -> None:
    certificate, key = tls.make(tmp_path)
    context = listener.tls_context(certificate, key)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    trusting = ssl.create_default_context(cafile=certificate)
    clients = serve(context)
    for said in (b"", b"\x16", b"\x16\x03\x01", WHOLE):
        clients.new(said)
    with trusting.wrap_socket(clients.new(), server_hostname=ONE) as client:
        for _ in range(3):
            client.sendall(WHOLE)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "begun",
    [
        *(b"", b"\r\n", b"G", b"GET /v2/ HTTP/1.1\r\nHost:"),
        b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1",
    ],
)
def test_a_request_must_end(serve: Callable[..., Clients], begun: bytes) -> None:
    assert ended(serve(REQUEST=0).new(begun))


def test_the_next_request_must_begin_and_end(serve: Callable[..., Clients]) -> None:
    assert ended(serve(IDLE=0).new(WHOLE))


def test_the_next_request_must_end(
    serve: Callable[..., Clients], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that has begun must end in time, even one that is just an empty line so far."""
    client = serve().new()
    assert answers(client)
    monkeypatch.setattr(connection, "REQUEST", 0)
    client.sendall(b"\r\nGET /v2/ HTTP/1.1\r\n")
    assert ended(client)


def test_a_handshake_must_end(serve: Callable[..., Clients], tmp_path: Path) -> None:
    context = listener.tls_context(*tls.make(tmp_path))
    assert ended(serve(context, REQUEST=0).new(b"\x16\x03\x01"))


def test_whoever_takes_nothing_is_dropped(
    serve: Callable[..., Clients], monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped, drop = threading.Event(), Connection.drop

    def dropping(self: Connection) -> None:
        drop(self)
        dropped.set()

    monkeypatch.setattr(Connection, "drop", dropping)
    reader = serve(STALLED=0).reader()
    assert dropped.wait(raw.TIMEOUT)
    # What comes is no more than the kernel had for it.
    assert sum(map(len, iter(lambda: received(reader), b""))) < SIZE


def received(client: socket.socket) -> bytes:
    with contextlib.suppress(ConnectionError):
        return client.recv(1024 * 1024)
    return b""


def test_a_slow_line_is_not_a_dead_one(tree: Path) -> None:
    """A client that takes some of many megabytes until its deadline stays."""
    with socket.create_server((ONE, 0)) as listening:
        client = socket.create_connection(listening.getsockname(), raw.TIMEOUT)
        accepted, _ = listening.accept()
    accepted.setblocking(False)
    served = Connection(accepted, ONE, TreeServer(tree), lambda _: None)
    with contextlib.closing(served), client:
        client.sendall(LARGE)
        until(lambda: served.step() == WRITE and served.answering)
        # Nothing is taken until the kernel has no more room.
        until(lambda: served.stalled() and served.stalled())
        for _ in range(3):
            before, taken = served.taken, 0
            while served.stalled():
                taken += len(client.recv(1024 * 1024))
            assert 0 < taken < SIZE
            assert before < served.taken


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + raw.TIMEOUT
    while not condition():
        assert time.monotonic() < deadline


class Swallower:
    """The socket of a client that takes everything at once, and goes on asking."""

    def __init__(self) -> None:
        self.sent = 0

    def fileno(self) -> int:
        return -1

    def recv(self, count: int) -> bytes:
        return (LARGE + WHOLE * 100)[:count]

    def send(self, content: bytes, flags: int) -> int:
        self.sent += len(content)
        return len(content)

    def sendfile(self, out: int, file: int, offset: int, count: int) -> int:
        self.sent += count
        return count

    def close(self) -> None:
        pass


@pytest.mark.slow
def test_others_have_their_turn(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of a client ends, however fast it is and however many requests it sends."""
    client = Swallower()
    monkeypatch.setattr(os, "sendfile", client.sendfile)
    served = Connection(client, ONE, TreeServer(tree), lambda _: None)  # type: ignore[arg-type]
    with contextlib.closing(served):
        for _ in range(300):
            before = client.sent
            assert served.step() in (READ, WRITE)
            assert client.sent - before < 2 * 1024 * 1024
        # It is at the small ones by now.
        assert client.sent > SIZE


def test_the_oldest_silent_client_goes_for_the_newest(serve: Callable[..., Clients]) -> None:
    clients = serve(_DESCRIPTORS=FIFTY)
    silent = [clients.new() for _ in range(30)]
    for _ in range(20):
        assert answers(clients.new())
    assert all(ended(client) for client in silent)


def test_nobody_is_pushed_out_by_one_address(serve: Callable[..., Clients]) -> None:
    clients = serve(_DESCRIPTORS=FIFTY)
    first = clients.new(address=OTHER)
    for _ in range(30):
        clients.new()
    assert answers(clients.new())
    assert answers(first)


def test_of_two_addresses_the_one_with_most_has_to_go(serve: Callable[..., Clients]) -> None:
    clients = serve(_DESCRIPTORS=FIFTY)
    few = [clients.new(address=OTHER) for _ in range(4)]
    many = [clients.new() for _ in range(7)]
    assert answers(clients.new(address="127.0.0.3"))
    assert ended(many[0])
    assert all(map(answers, few))


@pytest.mark.slow
def test_the_slowest_reader_goes_for_the_newest(serve: Callable[..., Clients]) -> None:
    clients = serve(_DESCRIPTORS=FIFTY, _YOUNG=0)
    first = clients.reader(OTHER)
    readers = [clients.reader() for _ in range(14)]
    for reader in readers[1:]:
        taken = 0
        while taken < 16 * 1024 * 1024:
            taken += len(reader.recv(1024 * 1024))
    for _ in range(20):
        assert answers(clients.new())
    clients.reader()
    clients.reader()
    assert sum(map(len, iter(lambda: received(readers[0]), b""))) < SIZE
    for reader in (first, *readers[1:]):
        taken = 0
        while taken < 16 * 1024 * 1024:
            more = len(reader.recv(1024 * 1024))
            assert more
            taken += more


def test_answers_leave_room_for_requests(serve: Callable[..., Clients]) -> None:
    """Among as many readers as there may be, and many silent clients, a request is answered."""
    clients = serve(_DESCRIPTORS=FIFTY)
    for _ in range(30):
        clients.reader()
        clients.new()
    newest = [clients.new() for _ in range(5)]
    for _ in range(3):
        assert all(map(answers, newest))


def test_an_owner_of_ipv6(tree: Path) -> None:
    """Addresses of one /64 are one owner's."""
    owners = [
        "2001:db8::1",
        "2001:db8::ffff:1",
        "2001:db8:0:1::1",
        "fe80::1%lo",
        "::ffff:192.0.2.1",
        "::ffff:192.0.2.2",
        "192.0.2.1",
    ]
    found = [connection._owner(host) for host in owners]
    assert found[0] == found[1]
    assert len(set(found)) == len(owners) - 1


class Pauses(logging.Handler):
    """What the server says when no descriptor is left for a new client."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._begun = threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        assert record.getMessage().startswith("no descriptor is left for a new client")
        self.count += 1
        self._begun.release()

    def wait(self) -> None:
        """Wait for the next one."""
        assert self._begun.acquire(timeout=raw.TIMEOUT)


@pytest.fixture
def pauses() -> Iterator[Pauses]:
    handler = Pauses()
    listener.LOG.addHandler(handler)
    yield handler
    listener.LOG.removeHandler(handler)


@pytest.fixture
def accepts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that a new client was asked for."""
    asked: list[int] = []
    accept = socket.socket.accept

    def accepting(self: socket.socket) -> tuple[socket.socket, Any]:
        asked.append(self.fileno())
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", accepting)
    return asked


@contextlib.contextmanager
def no_descriptor() -> Iterator[None]:
    """Allow this process no further descriptor for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_a_client_that_comes_without_a_descriptor(
    serve: Callable[..., Clients], pauses: Pauses, accepts: list[int]
) -> None:
    """Without a descriptor for it, a new client waits, and the server tries now and then."""
    clients = serve()
    with socket.socket() as client:
        with no_descriptor():
            client.connect(clients.server)
            for _ in range(3):
                pauses.wait()
            # By now there may have been more pauses, each after one try.
            assert len(accepts) <= pauses.count + 1
        client.settimeout(raw.TIMEOUT)
        assert answers(client)


def test_a_pause_is_one(serve: Callable[..., Clients], pauses: Pauses, accepts: list[int]) -> None:
    """In a pause no new client is taken, whatever other clients do."""
    clients = serve(_PAUSE=3600)
    dropped, other = clients.new(), clients.new()
    assert answers(dropped) and answers(other)
    with socket.socket() as client, no_descriptor():
        client.connect(clients.server)
        pauses.wait()
        before = len(accepts)
        for _ in range(5):
            other.sendall(WHOLE)
            assert other.recv(65536).startswith(b"HTTP/1.1 ")
    assert ended(dropped)
    assert (pauses.count, len(accepts)) == (1, before)


def test_the_last_answer_is_read_to_its_end(serve: Callable[..., Clients]) -> None:
    """What a client goes on sending is read for a while, so that it gets the last answer."""
    client = serve().new(b"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n")
    assert client.recv(65536).startswith(b"HTTP/1.1 413")
    for _ in range(50):
        client.sendall(b"x" * 10_000)
    client.shutdown(socket.SHUT_WR)
    assert client.recv(65536) == b""


def test_requests_one_after_another(serve: Callable[..., Clients]) -> None:
    """Requests that come at once are answered in turn; bodies are none (RFC 9112, 9.3.2)."""
    put = b"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 31\r\n\r\n" + WHOLE
    last = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n"
    client = serve().new(b"\r\n".join([WHOLE, put, WHOLE] * 100) + last)
    answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 201
    assert answer.count(b"HTTP/1.1 405 ") == 100


@pytest.mark.slow
def test_stopping_has_an_end(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends also where a client takes nothing more."""
    monkeypatch.setattr(listener, "STOPPING", 0.2)
    with contextlib.ExitStack() as stack:
        with listener.serving(tree) as server:
            client = Clients(server, stack).reader()
        assert ended(client)


def test_stopping_while_there_is_no_descriptor(
    tree: Path, monkeypatch: pytest.MonkeyPatch, pauses: Pauses
) -> None:
    """An answer is under way then, and it is another client that had to go."""
    monkeypatch.setattr(listener, "STOPPING", 1)
    paused = listener.Listener(tree)
    paused.prepare()
    thread = threading.Thread(target=paused.serve)
    thread.start()
    with contextlib.ExitStack() as stack:
        clients = Clients(paused.address, stack)
        waiting, reader = clients.new(), clients.reader()
        assert answers(waiting)
        with socket.socket() as client, no_descriptor():
            client.connect(clients.server)
            pauses.wait()
            paused.stop()
            thread.join()
        assert ended(waiting) and ended(reader)
    assert paused.failure is None


def test_who_stood_still_goes_on(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After SIGSTOP and SIGCONT, Python tells of a signal that nobody sent."""
    served = listener.Listener(tree)
    told = iter([1, 437918234, signal.SIGTERM])
    statuses = []

    def sigtimedwait(_: object, seconds: float) -> signal.struct_siginfo | None:
        if not seconds:
            return None
        statuses.append(raw.get(served.address, "/v2/")[0])
        return signal.struct_siginfo((next(told), *[0] * 6))

    monkeypatch.setattr(signal, "sigtimedwait", sigtimedwait)
    listener.run(served, lambda url: None)
    assert statuses == [200, 200, 200]


def test_where_nothing_can_be_logged(tree: Path) -> None:
    """A request is answered where its line cannot be logged."""

    def log(line: str) -> None:
        raise BrokenPipeError

    with listener.serving(tree, log=log) as server:
        for _ in range(2):
            assert raw.get(server, "/v2/")[0] == 200


def test_what_ends_it_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: socket.socket) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(socket.socket, "accept", fail)
    broken = listener.Listener(tree)
    broken.prepare()
    with contextlib.ExitStack() as stack:
        Clients(broken.address, stack).new()
        broken.serve()
    assert isinstance(broken.failure, MemoryError)
