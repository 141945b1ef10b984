# SPDX-License-Identifier: Apache-2.0
"""HTTP with servers that are not trusted: no answer is without end."""

from __future__ import annotations

import contextlib
import http.client
import io
import queue
import re
import socket
import ssl
import struct
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import urllib3

from image_uploader_plugins import errors
from image_uploader_plugins.pace import READ_TIMEOUT, Limits, Pace

# NOTE: trust.py warns once of each host that is not verified; urllib3 would warn each time.
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

NOT_FOUND = http.HTTPStatus.NOT_FOUND
"""The status of what is not there."""

CONNECT_TIMEOUT = 10.0
"""Seconds until a server takes a connection."""

_CONNECTIONS = 64  # that wait for their next request: more than a run has threads
_REST_LIMIT = 64 * 1024  # bytes that are read for a connection to go on
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REFUSED = 400  # and all above
_BUFFER = 16 * 1024  # bytes: the head of an answer and a small body
_FAST = 8 * 1024  # bytes: where so many come at once, more are about to
_GATHER = 0.25  # seconds for these
# What is asked for as it stands; all others are taken apart, and put together as RFC 3986 says.
_URL = re.compile(r"(https?://[a-z0-9._:\[\]-]+)(/[^\s#\\]*)")
# The head of an answer as most servers write it, and its fields.
_HEAD = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2}) ([ -~]*)\r\n((?:[A-Za-z0-9-]+:[ -~]*\r\n)+)\r\n")
_FIELD = re.compile(r"([^:]+): *(.*)\r\n")
_FOLD = re.compile(r"\r\n[ \t]+")  # RFC 9112, 5.2
_FIELDS = 99  # more are refused by http.client
# What tells where a body ends: its length, and what needs more care.
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]{1,18})\r\n", re.IGNORECASE)
_ENDS = re.compile(rb"\r\n(content-length|connection|transfer-encoding):", re.IGNORECASE)
_NO_BODY = frozenset({204, 304})
# NOTE: urllib3 would sleep as long as Retry-After says.
_ONCE = urllib3.Retry(False, redirect=False, respect_retry_after_header=False)


class Answer:
    """The answer to one request for ``url``, its body unread; a context that closes it.

    ``sent`` are the headers of the request, ``raw`` is urllib3's response, and
    ``ok`` says that it is no refusal and no failure.
    """

    def __init__(self, url: str, sent: Mapping[str, str], raw: urllib3.BaseHTTPResponse) -> None:
        self.url = url
        self.sent = sent
        self.raw = raw
        self.status_code: int = raw.status
        self.ok = raw.status < _REFUSED
        self.headers: Mapping[str, str] = raw.headers
        self._at_end: Callable[[], object] | None = None

    @property
    def is_redirect(self) -> bool:
        """Return whether it leads elsewhere."""
        return self.status_code in _REDIRECTS and bool(self.headers.get("Location"))

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the rest of the body as it comes, at most ``size`` bytes at once.

        Raises errors of urllib3, OSError and TransferTooSlow.
        """
        raw = self.raw
        while raw.length_remaining != 0 and (chunk := raw.read1(size, decode_content=False)):
            yield chunk

    def finish(self) -> None:
        """Close it; where the rest of its body is short its connection goes on."""
        if self.raw.length_remaining != 0:
            self._read_on()
        self.close()

    def _read_on(self) -> None:
        left = _REST_LIMIT
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError, errors.SourceError):
            for chunk in self.chunks(left):
                left -= len(chunk)
                if left <= 0:
                    break

    def excuse(self, seconds: float) -> None:
        """Note that for so many seconds nobody read: its server has longer for it."""
        pace: Pace | None = getattr(getattr(self.raw, "connection", None), "pace", None)
        if pace:
            pace.excuse(seconds)

    def at_end(self, work: Callable[[], object]) -> None:
        """Have ``work`` done once, when the answer is closed."""
        self._at_end = work

    def close(self) -> None:
        """Close it, and its connection unless all of it was read."""
        try:
            if self.raw.length_remaining == 0:
                self.raw.release_conn()  # which goes on
            self.raw.close()
        finally:
            work, self._at_end = self._at_end, None
            if work:
                work()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Session:
    """Connections to servers, each of which is asked once, and trusted in nothing.

    An answer that does not keep to ``limits`` raises TransferTooSlow, and one
    that pauses for ``read_timeout`` seconds an error of urllib3.  ``context`` is
    how TLS is spoken, and ``proxy`` says which proxy is asked for an origin, ""
    for none.  Safe to use from several threads.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        context: ssl.SSLContext | None = None,
        read_timeout: float = READ_TIMEOUT,
        proxy: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._context = context
        self._classes = _pool_classes(limits or Limits(), read_timeout)
        self._timeouts = {
            # NOTE: the operating system has the other one.
            "http": _Timeout(connect=CONNECT_TIMEOUT, read=None),
            "https": _Timeout(connect=CONNECT_TIMEOUT, read=read_timeout),
        }
        self._proxy = proxy
        self._lock = threading.Lock()
        self._pools: dict[str, tuple[urllib3.HTTPConnectionPool, str, bool]] = {}

    def send(
        self, method: str, url: str, headers: dict[str, str], body: str | None = None
    ) -> Answer:
        """Return the answer to a request.

        Raises errors of urllib3, OSError, ValueError for what is no URL of
        HTTP, and TransferTooSlow.
        """
        origin, target, user = _split(url)
        pool, host, by_whole_url = self._pools.get(origin) or self._opened(origin)
        sent = {"Host": host, **headers}
        if user:
            sent["Authorization"] = user
        raw = pool.urlopen(
            method,
            origin + target if by_whole_url else target,
            body,
            sent,
            _ONCE,
            redirect=False,
            assert_same_host=False,
            timeout=self._timeouts[pool.scheme],
            preload_content=False,
            decode_content=False,
        )
        return Answer(url, sent, raw)

    def close(self) -> None:
        """Close its connections."""
        with self._lock:
            for pool, *_ in self._pools.values():
                pool.close()
            self._pools.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self, origin: str) -> tuple[urllib3.HTTPConnectionPool, str, bool]:
        """Return the connections for an origin, its Host, and whether they take whole URLs."""
        with self._lock:
            if origin not in self._pools:
                proxy = self._proxy(origin)
                manager = self._manager(proxy)
                manager.pool_classes_by_scheme = self._classes
                found = manager.connection_from_url(origin)
                by_whole_url = bool(proxy) and origin.startswith("http:")
                self._pools[origin] = found, _host(origin), by_whole_url
            return self._pools[origin]

    def _manager(self, proxy: str) -> urllib3.PoolManager:
        wanted: dict[str, Any] = {"maxsize": _CONNECTIONS}
        if self._context:
            wanted |= {"ssl_context": self._context, "cert_reqs": self._context.verify_mode}
        if not proxy:
            return urllib3.PoolManager(**wanted)
        parts = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
        if not parts.host:
            raise ValueError("the proxy is no URL of HTTP")
        known = {"Proxy-Authorization": _basic(parts.auth)} if parts.auth else None
        at = parts._replace(auth=None).url
        return urllib3.ProxyManager(at, proxy_headers=known, **wanted)


class _Timeout(urllib3.Timeout):
    """The timeouts of all requests, which no request counts anything in: there is no total."""

    def clone(self) -> Self:
        return self

    def start_connect(self) -> float:
        return 0.0


def _split(url: str) -> tuple[str, str, str]:
    """Return the origin, what it is asked for, and the Authorization that stands in a URL."""
    plain = _URL.fullmatch(url)
    if plain and "/." not in plain[2]:
        return plain[1], plain[2], ""
    parts = urllib3.util.parse_url(url)
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError("no URL of HTTP")
    user = _basic(parts.auth) if parts.auth else ""
    origin = parts._replace(auth=None, path=None, query=None, fragment=None).url
    return origin, parts.request_uri, user


def _host(origin: str) -> str:
    """Return what Host says of an origin: no port where that is the usual one."""
    scheme, _, host = origin.partition("://")
    return host.removesuffix({"http": ":80", "https": ":443"}[scheme])


def _basic(login: str) -> str:
    """Return the Authorization for the ``user:password`` that stands in a URL."""
    return urllib3.make_headers(basic_auth=urllib.parse.unquote(login))["authorization"]


class _Reader(io.RawIOBase):
    """The bytes from a server by ``raw``, as long as it keeps ``pace``.

    Where many come at once and more are wanted than a buffer has, these are
    waited for a moment: each step costs the same, however few it brings.
    """

    def __init__(self, raw: io.RawIOBase, pace: Pace) -> None:
        self._raw = raw
        self._pace = pace
        self._failure: OSError | None = None

    def makefile(self, _: str) -> io.BufferedReader:
        """Return the file that http.client makes of what it takes for a socket."""
        return io.BufferedReader(self, _BUFFER)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._failure:
            raise self._failure
        view = memoryview(buffer)
        count = self._step(view)
        # NOTE: http.client asks for more than a buffer only where so much is to come.
        if _FAST <= count < len(view) and len(view) > _BUFFER:
            count += self._more(view[count:])
        return count

    def _step(self, view: memoryview) -> int:
        self._pace.wait()
        count = self._received(view)
        self._pace.arrived(count)
        return count

    def _received(self, view: memoryview) -> int:
        return self._raw.readinto(view) or 0

    def _more(self, view: memoryview) -> int:
        """Read more for a moment; what fails then fails at the next step."""
        count, until = 0, time.monotonic() + _GATHER
        try:
            while count < len(view) and time.monotonic() < until:
                came = self._step(view[count:])
                if not came:
                    break
                count += came
        except OSError as e:
            self._failure = e
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PlainReader(_Reader):
    """The bytes from a server without TLS, by a socket that blocks for a moment at most.

    A socket with a timeout of Python's is polled before each step.
    """

    def __init__(
        self, raw: io.RawIOBase, pace: Pace, connection: socket.socket, timeout: float, what: Any
    ) -> None:
        super().__init__(raw, pace)
        self._socket = connection
        self._timeout = timeout
        self._what = what

    def _received(self, view: memoryview) -> int:
        until: float | None = None
        while until is None or time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                return self._socket.recv_into(view)
            until = until or time.monotonic() + self._timeout - _GATHER
        late = f"Read timed out. (read timeout={self._timeout})"
        raise urllib3.exceptions.ReadTimeoutError(self._what, self._what, late)

    def _more(self, view: memoryview) -> int:
        self._pace.wait()
        try:
            count = self._socket.recv_into(view, 0, socket.MSG_WAITALL)
        except BlockingIOError:
            return 0
        except OSError as e:
            self._failure = e
            return 0
        self._pace.arrived(count)
        return count


class _Response(http.client.HTTPResponse):
    """An answer whose head is read at once if it is a usual one, and else by http.client.

    ``fields`` are those of its head.

    NOTE: that has it parsed as an e-mail, which takes a third of all calls of a request.
    """

    def __init__(self, sock: Any, debuglevel: int = 0, method: str | None = None) -> None:
        super().__init__(sock, debuglevel, method)
        self.fields = urllib3.HTTPHeaderDict()
        self._is_to_head = method == "HEAD"

    def begin(self) -> None:
        head = _HEAD.match(self.fp.peek())
        if not head or not self._takes(head[0], int(head[1]), head[3]):
            super().begin()
            for name, value in self.headers.items():
                self.fields.add(name, _FOLD.sub(" ", str(value)))
            return
        self.fp.read(head.end())
        self.reason = head[2].decode().strip()
        for name, value in _FIELD.findall(head[3].decode()):
            self.fields.add(name, value)

    def _takes(self, head: bytes, status: int, fields: bytes) -> bool:
        """Return whether nothing but its length ends the body, and all is known of the head."""
        ends, length = _ENDS.findall(head), _LENGTH.search(head)
        has_none = self._is_to_head or status in _NO_BODY
        if len(ends) != bool(length) or not (has_none or length) or fields.count(b"\n") > _FIELDS:
            return False
        self.length = int(length[1]) if length and not has_none else 0
        self.code = self.status = status
        self.version = 11
        self.chunked = self.will_close = False
        return True


class _Idle:
    """The connections that wait for their next request, the last one first.

    NOTE: urllib3's own queue takes a lock and wakes whoever waits, which nobody does.
    """

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._waiting: list[Any] = []

    def qsize(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def put(self, connection: Any, block: bool = True) -> None:
        """Take one more; raises queue.Full."""
        if len(self._waiting) >= self._maxsize:
            raise queue.Full
        self._waiting.append(connection)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return one that does not wait any more; raises queue.Empty."""
        try:
            return self._waiting.pop()
        except IndexError:
            raise queue.Empty from None


class _Paced(urllib3.connection.HTTPConnection):
    """A connection each of whose answers is held to ``limits``, headers and all.

    A request is one piece of text, and nothing is kept of it but what its answer needs.

    NOTE: urllib3 times the pauses alone, and a byte in time is no pause.
    """

    limits = Limits()
    read_timeout = READ_TIMEOUT
    pace: Pace | None = None  # of the answer that comes
    _what = ""
    _asked = ""  # the method

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> None:
        """Send a request, whose headers have a Host; raises ValueError for what is no line."""
        path = url if url.startswith("/") else urllib.parse.urlsplit(url).path
        # Without what may be a secret in it.
        self._what = f"{self.host}:{self.port}{path.partition('?')[0]}"
        self._asked = method
        lines = [f"{method} {url} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        if not "".join(lines).isprintable():
            raise ValueError("a header with more than one line")
        self.send("\r\n".join([*lines, "", body or ""]).encode("ascii"))

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        """Return the answer, its body unread."""
        found = self.response_class(self.sock, method=self._asked)
        try:
            found.begin()
        except BaseException:
            found.close()
            raise
        if found.will_close:
            self.close()
        if found.length == 0:
            # Nobody else may have the connection before its file is closed.
            found.close()
        return urllib3.HTTPResponse(
            found,
            found.fields,
            found.status,
            found.version,
            reason=found.reason,
            preload_content=False,
            decode_content=False,
            original_response=found,
            request_method=self._asked,
        )

    def response_class(  # type: ignore[override]
        self, sock: Any, *args: Any, **kwargs: Any
    ) -> _Response:
        self.pace = pace = Pace(self._what, self.limits)
        return _Response(self._reader(sock, pace), *args, **kwargs)

    def _reader(self, sock: Any, pace: Pace) -> _Reader:
        return _Reader(sock.makefile("rb", buffering=0), pace)


class _Plain(_Paced):
    """A connection without TLS, whose timeouts are the operating system's.

    Answers take a poll less for each step than by those of Python.
    """

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(None)  # that was for connecting
        for option, seconds in (
            (socket.SO_RCVTIMEO, min(_GATHER, self.read_timeout)),
            (socket.SO_SNDTIMEO, self.read_timeout),
        ):
            microseconds = int(seconds * 1_000_000)
            value = struct.pack("@ll", *divmod(microseconds, 1_000_000))
            self.sock.setsockopt(socket.SOL_SOCKET, option, value)

    def _reader(self, sock: Any, pace: Pace) -> _Reader:
        raw = sock.makefile("rb", buffering=0)
        return _PlainReader(raw, pace, sock, self.read_timeout, self._what)


class _Tls(_Paced, urllib3.connection.HTTPSConnection):
    """A connection by TLS, itself or to a proxy."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(self.read_timeout)


def _pool_classes(limits: Limits, read_timeout: float) -> dict[str, Any]:
    """Return the connection pools of urllib3 by scheme, with connections that have limits."""
    about = {"limits": limits, "read_timeout": read_timeout}
    kinds: tuple[tuple[str, type[Any], type[Any]], ...] = (
        ("http", urllib3.HTTPConnectionPool, _Plain),
        ("https", urllib3.HTTPSConnectionPool, _Tls),
    )
    return {
        scheme: type(
            "Pool",
            (pool,),
            {"ConnectionCls": type("Connection", (connection,), about), "QueueCls": _Idle},
        )
        for scheme, pool, connection in kinds
    }
