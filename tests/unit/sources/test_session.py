# SPDX-License-Identifier: Apache-2.0
"""Connections to servers: how many steps their answers take, and what a URL says of us."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import queue
import socket
import ssl
import sys
import threading
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import urllib3

from image_uploader_plugins.pace import Limits, Pace
from image_uploader_plugins.sources import answers, session
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.requester import Requester
from image_uploader_plugins.sources.session import Session
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.testing import images
from tests.support import odd_registry, tls
from tests.support.odd_registry import OddRegistry, Reply

MANY = 256 * 1024


class Wire:
    """A socket that gives so many bytes a step, or fails; ``steps`` are the flags of each."""

    def __init__(self, gives: Iterable[int | OSError]) -> None:
        self._gives = iter(gives)
        self.steps: list[int] = []

    def recv_into(self, view: memoryview, _: int = 0, flags: int = 0) -> int:
        self.steps.append(flags)
        given = next(self._gives)
        if isinstance(given, OSError):
            raise given
        assert given <= len(view)
        return given


class Records(io.RawIOBase):
    """A connection by TLS that gives so many bytes a step, or fails."""

    def __init__(self, gives: Iterable[int | OSError]) -> None:
        self.wire = Wire(gives)

    def readinto(self, buffer: Any) -> int:
        return self.wire.recv_into(memoryview(buffer))


def plain(wire: Wire, timeout: float = 300.0) -> session._PlainReader:
    connection: Any = wire
    return session._PlainReader(io.RawIOBase(), Pace("x", Limits()), connection, timeout, "x")


def test_what_comes_fast_takes_two_steps() -> None:
    wire = Wire([20_000, MANY - 20_000])
    assert plain(wire).readinto(bytearray(MANY)) == MANY
    assert wire.steps == [0, socket.MSG_WAITALL]


def test_what_comes_slowly_is_there_at_once() -> None:
    wire = Wire([100])
    assert plain(wire).readinto(bytearray(MANY)) == 100
    assert wire.steps == [0]


def test_nothing_is_waited_for_that_may_not_come() -> None:
    """A head, and a small body with it: http.client asks for a buffer of them."""
    wire = Wire([9000])
    assert plain(wire).readinto(bytearray(16 * 1024)) == 9000
    assert wire.steps == [0]


def test_a_pause_gives_what_has_come() -> None:
    wire = Wire([20_000, BlockingIOError(), BlockingIOError(), 7])
    reader = plain(wire)
    assert reader.readinto(bytearray(MANY)) == 20_000
    assert reader.readinto(bytearray(MANY)) == 7


@pytest.mark.parametrize("tls", [False, True])
def test_what_breaks_off_is_told_behind_what_has_come(tls: bool) -> None:
    gives: list[int | OSError] = [16_000, ConnectionResetError("reset")]
    records = Records(gives)
    reader = session._Reader(records, Pace("x", Limits())) if tls else plain(Wire(gives))
    assert reader.readinto(bytearray(MANY)) == 16_000
    with pytest.raises(ConnectionResetError, match="reset"):
        reader.readinto(bytearray(MANY))


def test_records_are_put_together() -> None:
    records = Records([16_384] * 16)
    reader = session._Reader(records, Pace("x", Limits()))
    assert reader.readinto(bytearray(MANY)) == MANY
    assert len(records.wire.steps) == 16


def test_a_small_answer_takes_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the next one the same connection."""
    steps: list[int] = []
    real = session._PlainReader._received

    def counted(self: session._PlainReader, view: memoryview) -> int:
        # Else Python would poll before each step, and connecting's time be that of reading.
        assert self._socket.gettimeout() is None
        steps.append(real(self, view))
        return steps[-1]

    monkeypatch.setattr(session._PlainReader, "_received", counted)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    given = {"HEAD": head, "GET": head + b"{}"}
    with socket.create_server(("127.0.0.1", 0)) as listening, Session() as asking:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                while asked := connection.recv(65536):
                    connection.sendall(given[asked.split()[0].decode()])

        serving = threading.Thread(target=serve)
        serving.start()
        url = "http://{}:{}/".format(*listening.getsockname())
        for method, body in (("HEAD", b""), ("GET", b"{}"), ("HEAD", b"")):
            with asking.send(method, url, {}) as answer:
                assert answers.whole(answer, 1000) == body
        assert steps == [len(head), len(head) + 2, len(head)]
    serving.join(10)


@pytest.mark.parametrize("tag", ["1", "2"])
def test_a_request_is_little_work_of_ours(tag: str) -> None:
    """As many calls of this package's functions as there are things to know of each request.

    Also of what is not there, which is asked for all the time: signatures.
    """
    calls: list[str] = []
    watched = ("image_uploader_plugins.", "email.feedparser", "email._policybase")

    def note(frame: types.FrameType, event: str, _: object) -> None:
        module = str(frame.f_globals.get("__name__"))
        if event == "call" and module.startswith(watched):
            calls.append(f"{module}.{frame.f_code.co_qualname}")

    registry = OddRegistry([images.image("ns/app", "1", [])])
    with odd_registry.serving(registry) as address:
        asked = Registries(Settings()).registry(address)
        for _ in range(2):
            calls.clear()
            sys.setprofile(note)
            try:
                found = asked.head("ns/app", f"manifests/{tag}", {})
            finally:
                sys.setprofile(None)
        asked.close()
    assert bool(found) is (tag == "1")
    assert len(calls) <= 60, calls
    assert not any(call.startswith("email.") for call in calls)


class Given:
    """What http.client takes for a socket that has received ``content``."""

    def __init__(self, content: bytes) -> None:
        self.file = io.BufferedReader(io.BytesIO(content))

    def makefile(self, _: str) -> Any:
        return self.file


def begun(kind: type[http.client.HTTPResponse], content: bytes, method: str) -> Any:
    """What an answer says of itself when its head was read, and what is left of it."""
    given: Any = Given(content)
    answer = kind(given, method=method)
    try:
        answer.begin()
    except http.client.HTTPException as e:
        return type(e), str(e)
    told = (answer.status, vars(answer)["code"], answer.reason, answer.version, answer.length)
    ends = (answer.chunked, answer.will_close)
    if isinstance(answer, session._Response):
        fields = answer.fields
    else:
        plain = [(name, value.replace("\r\n ", " ")) for name, value in answer.msg.items()]
        fields = urllib3.HTTPHeaderDict(plain)
    return told, ends, [*fields.items()], given.file.read()


STATUSES = (
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 204  No  Content ",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 404 ",
    b"HTTP/1.1 404",
    b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 999 Odd",
    b"HTTP/1.0 200 OK",
    b"HTTP/2 200 OK",
    "HTTP/1.1 200 G\u00e9nial".encode(),
    b"nothing",
)
LINES = (
    (),
    (b"Link: <a>",),
    (b"Content-Length: 2",),
    (b"content-length:   2", b"Link: <a>", b"Link:<b>"),
    (b"Content-Length: 2", b"Content-Length: 2"),
    (b"Content-Length: 2", b"Content-Length: 3"),
    (b"Content-Length: -2",),
    (b"Content-Length: 2 ",),
    (b"Content-Length: 1_0",),
    (b"Content-Length: ",),
    (b"Content-Length: 99999999999999999999",),
    (b"Content-Length: " + b"9" * 5000,),
    (b"Content-Length : 2",),
    (b"Content-Length: 2", b"Connection: close"),
    (b"CONNECTION: keep-alive", b"Content-Length: 2"),
    (b"Transfer-Encoding: chunked",),
    (b"Transfer-Encoding: chunked", b"Content-Length: 2"),
    (b"Content-Length: 2", b"Link: <a>", b" ; folded"),
    (b"Content-Length: 2", b"Link: \t<a>\t "),
    (b"Content-Length: 2", b"Link: \xe9"),
    (b"Content-Length: 2", b"no field"),
    (b"Content-Length: 2", b": nameless"),
    (b"Content-Length: 2", b"Link:"),
    (b"Content-Length: 2", b"Content-Type: multipart/mixed; boundary=x"),
    (b"Content-Length: 2", *(b"X-%d: x" % number for number in range(99))),
    (b"Content-Length: 2", *(b"X-%d: x" % number for number in range(100))),
    (b"Content-Length: 2", b"X: " + bytes(20_000).replace(b"\0", b"x")),
)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_head_is_read_as_http_client_reads_it(status: bytes, method: str) -> None:
    for lines, line_end in itertools.product(LINES, (b"\r\n", b"\n")):
        head = line_end.join((status, *lines, b"", b""))
        for content in (head + b"{}HTTP/1.1 200 OK", head, head[:-2], head[: len(head) // 2]):
            expected = begun(http.client.HTTPResponse, content, method)
            assert begun(session._Response, content, method) == expected, content


@pytest.mark.parametrize(
    ("user", "expected"),
    [("", None), ("me:p%40ss@", "Basic bWU6cEBzcw=="), ("me@", "Basic bWU=")],
)
def test_the_user_in_a_url_is_told(user: str, expected: str | None) -> None:
    registry = OddRegistry()
    with odd_registry.serving(registry) as address, Session() as asking:
        asking.send("GET", f"http://{user}{address}/v2/", {"Authorization": "Bearer x"}).close()
    (asked,) = registry.asked
    assert asked.authorization == (expected or "Bearer x")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/v2/a b#c", "/v2/a%20b"),
        ("/v2/./a/../b", "/v2/b"),
        ("/v2/%zz?x=%C3%A4&y={}", "/v2/%25zz?x=%C3%A4&y=%7B%7D"),
        ("", "/"),
    ],
)
def test_what_is_no_path_is_made_one(url: str, path: str) -> None:
    registry = OddRegistry()
    with odd_registry.serving(registry) as address, Session() as asking:
        asking.send("GET", f"http://{address}{url}", {}).close()
    (asked,) = registry.asked
    assert asked.raw.split()[1].decode() == path


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://", "quay.io/v2/", "http://[::1"])
def test_what_is_no_url_of_http_is_refused(url: str) -> None:
    with Session() as asking, pytest.raises(ValueError, match=r"."):
        asking.send("GET", url, {})


def test_a_proxy_is_told_where_to_ask_in_the_clear() -> None:
    registry = OddRegistry()
    with odd_registry.serving(registry) as address:
        proxy = f"me:p%40ss@{address}"  # as curl takes it, too
        with Session(proxy=lambda origin: proxy if "registry.test" in origin else "") as asking:
            asking.send("GET", "http://registry.test:5000/v2/", {}).close()
    (asked,) = registry.asked
    assert asked.raw.split()[1] == b"http://registry.test:5000/v2/"
    assert asked.headers["Host"] == "registry.test:5000"
    assert asked.headers["Proxy-Authorization"] == "Basic bWU6cEBzcw=="


def test_a_redirect_leaves_the_connection_open() -> None:
    registry = OddRegistry()
    elsewhere = Reply(307, (("Location", "/v2/there"),), b"elsewhere")
    registry.hook = lambda asked: None if asked.path == "/v2/there" else elsewhere
    with odd_registry.serving(registry) as address:
        asking = Requester(Settings())
        for _ in range(2):
            asking.follow(f"http://{address}/v2/here", {}, "").finish()
        asking.close()
    assert len(registry.asked) == 4
    assert len(set(registry.connections)) == 1


@pytest.mark.parametrize(("method", "body"), [("HEAD", b"{}"), ("GET", b"{}"), ("GET", b"")])
def test_a_connection_is_free_when_its_answer_is_closed(
    monkeypatch: pytest.MonkeyPatch, method: str, body: bytes
) -> None:
    """And not before: the next request would have it at once, and files of a socket are counted."""
    steps: list[str] = []
    closed, freed = session._Reader.close, session._Idle.put

    def close(self: session._Reader) -> None:
        steps.append("closed")
        closed(self)

    def put(self: session._Idle, connection: Any, block: bool = True) -> None:
        steps.extend(["free"] if connection else [])
        freed(self, connection, block)

    monkeypatch.setattr(session._Reader, "close", close)
    monkeypatch.setattr(session._Idle, "put", put)
    registry = OddRegistry(hook=lambda asked: Reply(200, (), body))
    with odd_registry.serving(registry) as address, Session() as asking:
        asking.send(method, f"http://{address}/v2/", {}).finish()
    assert steps[:2] == ["closed", "free"]
    assert steps.count("free") == 1


def test_idle_connections_are_as_many_as_are_wanted() -> None:
    idle = session._Idle(2)
    idle.put("a")
    idle.put("b")
    with pytest.raises(queue.Full):
        idle.put("c")
    assert (idle.qsize(), idle.get(), idle.get()) == (2, "b", "a")
    with pytest.raises(queue.Empty):
        idle.get()


@pytest.mark.parametrize("ends", [b"Connection: close\r\nContent-Length: 2", b"Content-Length: 9"])
def test_a_connection_is_left_that_ends_or_still_has_an_answer(ends: bytes) -> None:
    """What is asked for just before its end may be lost; what is left of an answer is no answer."""
    answer = b"HTTP/1.1 200 OK\r\n" + ends + b"\r\n\r\n{}"
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        Session(read_timeout=10) as asking,
        contextlib.ExitStack() as left_open,
    ):

        def serve() -> None:
            for _ in range(2):
                connection = left_open.enter_context(listening.accept()[0])
                connection.recv(65536)
                connection.sendall(answer)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        for _ in range(2):
            with asking.send("GET", "http://{}:{}/".format(*listening.getsockname()), {}) as given:
                assert given.raw.read1(2) == b"{}"
        serving.join(10)


def test_an_answer_by_tls_that_does_not_come_ends_the_wait(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    end = threading.Event()
    # It comes before the time is over that connecting may take.
    registry = OddRegistry(hook=lambda asked: Reply() if end.wait(5) else None)
    with (
        odd_registry.serving(registry, tls.make(tmp_path)) as address,
        Session(context=context, read_timeout=0.01) as asking,
    ):
        with pytest.raises(urllib3.exceptions.ReadTimeoutError):
            asking.send("GET", f"https://{address}/v2/", {})
        end.set()


@pytest.mark.parametrize("value", ["a\r\nB: b", "a\nB: b", "a\rb", "a\0", "\x1b", "\xe9", "\u2028"])
def test_a_header_is_one_line_of_ascii(value: str) -> None:
    """Else nothing is sent."""
    registry = OddRegistry()
    with odd_registry.serving(registry) as address, Session() as asking:
        for headers in ({"A": value}, {value: "a"}):
            with pytest.raises(ValueError, match=r"."):
                asking.send("GET", f"http://{address}/v2/", headers)
    assert not registry.connections


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://registry.test:80/v2/", "registry.test"),
        ("http://registry.test:443/v2/", "registry.test:443"),
        ("http://[::1]:5000/v2/", "[::1]:5000"),
    ],
)
def test_a_host_has_the_port_that_is_not_the_usual_one(url: str, host: str) -> None:
    registry = OddRegistry()
    with odd_registry.serving(registry) as proxy, Session(proxy=lambda _: proxy) as asking:
        asking.send("GET", url, {}).close()
    (asked,) = registry.asked
    assert asked.headers.get_all("Host") == [host]
