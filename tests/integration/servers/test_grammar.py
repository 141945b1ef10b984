# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 byte by byte (RFC 9112), as the embedded server reads it, and nginx beside it.

Where nginx refuses something, so does the embedded server. It may be more
strict, and each such case says so.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from typing import Literal

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import raw, trees, web

LINE = b"GET /v2/ HTTP/1.1"
HOST = b"Host: x\r\n"

Beside = Literal["same", "stricter", "looser"]


def request(fields: bytes = b"", line: bytes = LINE, host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + fields + b"\r\n"


def of(target: bytes, version: bytes = b"HTTP/1.1", method: bytes = b"GET") -> bytes:
    return request(line=method + b" " + target + b" " + version)


def host(value: bytes) -> bytes:
    return request(host=b"Host: " + value + b"\r\n")


def length(*values: bytes, body: bytes = b"") -> bytes:
    return request(b"".join(b"Content-Length: " + value + b"\r\n" for value in values)) + body


def coded(*values: bytes, more: bytes = b"", line: bytes = LINE) -> bytes:
    fields = b"".join(b"Transfer-Encoding: " + value + b"\r\n" for value in values)
    return request(fields + more, line) + b"0\r\n\r\n"


def field(line: bytes) -> bytes:
    return request(line + b"\r\n")


HOSTS: list[tuple[bytes, int, Beside]] = [
    (request(), 200, "same"),
    (request(host=b""), 400, "same"),
    (request(host=HOST + HOST), 400, "same"),
    (request(host=HOST + b"HOST: y\r\n"), 400, "same"),
    (host(b""), 400, "same"),
    (host(b" \t "), 400, "same"),
    (host(b"a b"), 400, "same"),
    (host(b"a/b"), 400, "same"),
    (host(b"a\x00b"), 400, "same"),
    (host(b"a, b"), 400, "same"),
    (host(b"a..b"), 400, "same"),
    (host(b":80"), 400, "same"),
    (host(b"u@a"), 400, "stricter"),
    (host(b"a?b"), 400, "stricter"),
    (host(b"a#b"), 400, "stricter"),
    (host(b'a"b'), 400, "stricter"),
    (host(b"a\\b"), 400, "stricter"),
    (host(b"a<b>"), 400, "stricter"),
    (host(b"a\x80b"), 400, "stricter"),
    (host(b"a:8x"), 400, "stricter"),
    (host(b"a:80:80"), 400, "stricter"),
    (host(b"[::1"), 400, "stricter"),
    (host(b"registry.example.com:8787"), 200, "same"),
    (host(b"a:"), 200, "same"),
    (host(b"a."), 200, "same"),
    (host(b"a_b-c.d~e"), 200, "same"),
    (host(b"[2001:db8::1]:8787"), 200, "same"),
    (request(line=b"GET /v2/ HTTP/1.0", host=b""), 200, "same"),
    (request(line=b"GET /v2/ HTTP/1.0", host=HOST + HOST), 400, "same"),
    (request(line=b"GET /v2/ HTTP/1.0", host=b"Host: a/b\r\n"), 400, "same"),
]
LINES: list[tuple[bytes, int, Beside]] = [
    (of(b"/v2/", b"HTTP/1.2"), 200, "same"),
    (of(b"/v2/", b"HTTP/0.9"), 400, "same"),
    (of(b"/v2/", b"HTTP/2.0"), 505, "same"),
    (of(b"/v2/", b"HTTP/3.0"), 505, "same"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "same"),
    (b"GET /v2/\r\n", 400, "stricter"),
    (of(b"/v2/", b"HTTP/1"), 400, "same"),
    (of(b"/v2/", b"HTTP/1."), 400, "same"),
    (of(b"/v2/", b"HTTP/1.1x"), 400, "same"),
    (of(b"/v2/", b"HTTP/01.1"), 400, "same"),
    (of(b"/v2/", b"HTTP/+1.1"), 400, "same"),
    (of(b"/v2/", b"HTTP/1.01"), 400, "stricter"),
    (of(b"/v2/", b"http/1.1"), 400, "same"),
    (of(b"/v2/", b"FTP/1.1"), 400, "same"),
    (of(b"/v2/", method=b"get"), 400, "same"),
    (of(b"/v2/", method=b"G!T"), 400, "same"),
    (of(b"/v2/", method=b"GET1"), 400, "same"),
    (of(b"/v2/", method=b""), 400, "same"),
    (of(b"/v2/", method=b" GET"), 400, "same"),
    (of(b"/v2/", method=b"FOO"), 405, "same"),
    (of(b"/v2/", method=b"M-SEARCH"), 405, "same"),
    (of(b"/v2/", method=b"TRACE"), 405, "same"),
    (of(b"/v2/", method=b"OPTIONS"), 405, "same"),
    (request(line=b"GET\t/v2/ HTTP/1.1"), 400, "same"),
    (request(line=b"GET  /v2/ HTTP/1.1"), 400, "stricter"),
    (request(line=b"GET /v2/ HTTP/1.1 "), 400, "stricter"),
    (of(b"/v2/ x"), 400, "same"),
    (of(b"/v2/\x00"), 400, "same"),
    (of(b"/v2/\x01"), 400, "same"),
    (of(b"/v2/\x7f"), 400, "same"),
    (of(b"/v2/\t"), 400, "same"),
    (of(b"/v2/\rx"), 400, "same"),
    (of(b"/v2/?a=\x01"), 400, "same"),
    (of(b"/v2/\x80"), 400, "same"),
    (of(b"/v2/%00"), 400, "same"),
    (of(b"/v2/%zz"), 400, "same"),
    (of(b"/v2/%4"), 400, "same"),
    (of(b"/v2/#x"), 400, "stricter"),
    (of(b"/%762%2f"), 200, "same"),
    (of(b"/v2/?a=%zz&b"), 200, "same"),
    (of(b"v2/"), 400, "same"),
    (of(b"*"), 400, "same"),
    (of(b"*", method=b"OPTIONS"), 400, "same"),
    (of(b"x:80", method=b"CONNECT"), 400, "same"),
    (of(b"http://x/v2/"), 200, "same"),
    (of(b"HTTP://y:1/v2/"), 200, "same"),
    (of(b"https://x/v2/"), 200, "same"),
    (of(b"http://x"), 200, "same"),
    (of(b"http://x?a"), 200, "same"),
    (request(line=b"GET http://x/v2/ HTTP/1.1", host=b""), 400, "same"),
    (of(b"http:///v2/"), 400, "same"),
    (of(b"http:/v2/"), 400, "same"),
    (of(b"http://u@x/v2/"), 400, "same"),
    (of(b"ftp://x/v2/"), 400, "stricter"),
    (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "same"),
    (b"SSH-2.0-x\r\n\r\n", 400, "same"),
    (b"\r\n\r\n\n" + request(), 200, "same"),
    (b" " + request(), 400, "same"),
    (request().replace(b"\r\n", b"\n"), 200, "same"),
    (of(b"/v2/?" + b"x" * 8000), 200, "same"),
    (of(b"/v2/?" + b"x" * 9000), 414, "stricter"),
    (of(b"/v2/?" + b"x" * 500_000), 414, "same"),
]
FIELDS: list[tuple[bytes, int, Beside]] = [
    (field(b"X : y"), 400, "same"),
    (field(b"X\t: y"), 400, "same"),
    (field(b"X y: z"), 400, "same"),
    (field(b"X: y\r\n z"), 400, "same"),
    (field(b"X: y\r\n\tz"), 400, "same"),
    (b"GET /v2/ HTTP/1.1\r\n Host: x\r\n\r\n", 400, "same"),
    (field(b": y"), 400, "same"),
    (field(b"X\x00: y"), 400, "same"),
    (field(b"X\x01: y"), 400, "same"),
    (field(b"X@: y"), 400, "stricter"),
    (field(b"X\x80: y"), 400, "stricter"),
    (field(b"Xy"), 400, "stricter"),
    (field(b"X!_: y"), 200, "same"),
    (field(b"X: a\x00b"), 400, "same"),
    (field(b"X: a\rb"), 400, "same"),
    (field(b"X: a\x01b"), 400, "stricter"),
    (field(b"X: a\x7fb"), 400, "stricter"),
    (field(b"X: a\r"), 400, "stricter"),
    (field(b"X: a\tb \x80"), 200, "same"),
    (field(b"X:"), 200, "same"),
    (field(b"X: " + b"x" * 7000), 200, "same"),
    (field(b"X: " + b"x" * 40_000), 431, "same"),
    (request((b"X: " + b"x" * 5000 + b"\r\n") * 100), 431, "same"),
    (field(b"Expect: x"), 200, "same"),
    (field(b"Connection: Upgrade\r\nUpgrade: h2c"), 200, "same"),
]
BODIES: list[tuple[bytes, int, Beside]] = [
    (length(b"0"), 200, "same"),
    (length(b"0005", body=b"12345"), 200, "same"),
    (length(b"-1"), 400, "same"),
    (length(b"+0"), 400, "same"),
    (length(b"0x0"), 400, "same"),
    (length(b"1.0"), 400, "same"),
    (length(b""), 400, "same"),
    (length(b"0 0"), 400, "same"),
    (length(b"0", b"1", body=b"1"), 400, "same"),
    (length(b"0, 1", body=b"1"), 400, "same"),
    # RFC 9110, 8.6: one number that is there twice may be taken for one.
    (length(b"1", b"1", body=b"1"), 200, "looser"),
    (length(b"1, 1", body=b"1"), 200, "looser"),
    (length(b"9" * 30), 413, "same"),
    (coded(b"chunked"), 200, "same"),
    (coded(b"Chunked"), 200, "same"),
    (coded(b"chunked", more=b"Content-Length: 5\r\n"), 400, "same"),
    (coded(b"chunked", b"chunked"), 400, "same"),
    (coded(b"chunked", line=b"GET /v2/ HTTP/1.0"), 400, "same"),
    (coded(b"gzip"), 501, "same"),
    (coded(b"gzip, chunked"), 501, "same"),
    (coded(b"chunked, identity"), 501, "same"),
    (coded(b"xchunked"), 501, "same"),
    (coded(b"identity"), 501, "same"),
    (coded(b""), 501, "same"),
]
CASES = [*HOSTS, *LINES, *FIELDS, *BODIES]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[web.Kind, str]]:
    kinds: tuple[web.Kind, ...] = ("embedded", "nginx")
    with web.open_folder() as folder, contextlib.ExitStack() as stack:
        with LocalExportDriver(folder / "tree") as driver:
            trees.put(driver, images.corpus()[0])
        yield {kind: stack.enter_context(web.serve(kind, folder / "tree")) for kind in kinds}


def statuses(server: str, sent: bytes) -> list[int]:
    """Return the status of every answer to a client that sends no more."""
    received = b""
    with raw.connected(server) as client, contextlib.suppress(ConnectionError):
        with contextlib.suppress(OSError):  # the server may have closed the connection by then
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        while chunk := client.recv(65536):
            received += chunk
    return [int(code) for code in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received)]


@pytest.mark.parametrize(
    ("sent", "status", "beside"), CASES, ids=[repr(sent)[:70] for sent, *_ in CASES]
)
def test_one_request(
    servers: dict[web.Kind, str], sent: bytes, status: int, beside: Beside
) -> None:
    assert statuses(servers["embedded"], sent) == [status]
    (other,) = statuses(servers["nginx"], sent) or [200]  # HTTP/0.9 has none
    refused = status >= 400, other >= 400
    assert refused == {"stricter": (True, False), "looser": (False, True)}.get(
        beside, (refused[0], refused[0])
    )


@pytest.mark.parametrize("size", [1, 60_000, 65_536])
def test_a_body_that_is_refused(servers: dict[web.Kind, str], size: int) -> None:
    """A refused body is read up to a bound, and is not taken for the next request."""
    put = f"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    for server in servers.values():
        sent = put + b"x" * size + request()
        assert statuses(server, sent) == [405, 200]


def test_a_word_before_the_body(servers: dict[web.Kind, str]) -> None:
    """RFC 9110, 10.1.1: where the final answer comes, 100 Continue need not."""
    for line, status in ((b"PUT /v2/ HTTP/1.1", 405), (LINE, 200)):
        asked = request(b"Expect: 100-Continue\r\nContent-Length: 5\r\n", line)
        with raw.connected(servers["embedded"]) as client:
            client.sendall(asked)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"Connection: close" in answer


def test_no_more_is_read_after_what_is_wrong(servers: dict[web.Kind, str]) -> None:
    for wrong in (host(b"a/b"), length(b"-1"), coded(b"chunked", more=b"Content-Length: 5\r\n")):
        for server in servers.values():
            assert statuses(server, wrong + request()) == [400]


def test_what_is_refused_is_told_in_json(servers: dict[web.Kind, str]) -> None:
    for wrong in (b"x\r\n\r\n", host(b""), of(b"/" + b"x" * 9000), length(b"9" * 9)):
        status, headers, body = raw.exchange(servers["embedded"], wrong)
        assert status in (400, 413, 414)
        assert headers["Content-Type"] == "application/json"
        assert headers["Cache-Control"] == "no-cache"
        assert headers["Connection"] == "close"
        assert b'"errors"' in body


def test_keeping_a_connection(servers: dict[web.Kind, str]) -> None:
    """RFC 9112, 9.3: HTTP/1.0 asks for it, HTTP/1.1 for its end."""
    for server in servers.values():
        for options, version, count in (
            (b"", b"1.1", 2),
            (b"Connection: x, CLOSE\r\n", b"1.1", 1),
            (b"", b"1.0", 1),
            (b"Connection: Keep-Alive\r\n", b"1.0", 2),
        ):
            one = request(options, b"GET /v2/ HTTP/" + version)
            assert len(statuses(server, one + one)) == count


def test_fields_that_wsgi_would_mix_up(servers: dict[web.Kind, str]) -> None:
    """WSGI must not take ``If_None_Match`` for ``If-None-Match``."""
    for server in servers.values():
        assert statuses(server, field(b"If_None_Match: *")) == [200]
