# SPDX-License-Identifier: Apache-2.0
"""One client of the embedded server, from its first byte to its last."""

from __future__ import annotations

import contextlib
import email.utils
import errno
import fcntl
import functools
import io
import ipaddress
import logging
import os
import select
import socket
import ssl
import struct
import sys
import termios
import time
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from image_uploader_plugins.serving import http1, ranges
from image_uploader_plugins.serving.messages import Body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOG = logging.getLogger(__name__)

READ, WRITE = select.EPOLLIN, select.EPOLLOUT

# Seconds that a client has to send a request (on a new connection, with the TLS
# handshake), to begin its next request, and to take more bytes of an answer.
REQUEST = 30
IDLE = 30
STALLED = 30
# Seconds to wait, and bytes to read, until a client that still sends has the last answer.
LINGER = 5
_LINGER_BYTES = 1024 * 1024
# Bytes of a request's body that are read, for example of a push, before it is refused.
BODY = 64 * 1024
# Bytes to receive at once, and bytes to send to a client before it is the others' turn.
_RECEIVED = 16 * 1024
_TURN = 1024 * 1024

# Errors of file systems from which the kernel cannot send.
_NO_SENDFILE = (errno.EINVAL, errno.ENOSYS)

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Log = Callable[[str], None]
_T = TypeVar("_T")
# A generator that yields READ or WRITE when it must wait until the socket is ready for it.
Steps = Generator[int, None, _T]


class Application(Protocol):
    """A WSGI application that also answers requests which cannot be parsed."""

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]: ...

    def refuse(self, status: int, reason: str) -> WSGIApplication:
        """Return an application that answers a request with this status and reason."""


class Connection:
    """The connection of one client, on a socket that never blocks: step() returns soon.

    ``answering`` is true after a request was read, while the answer is sent;
    ``begins`` is called before. ``since`` is the time when waiting for the
    request began, or when its answer began. By ``deadline`` the client must have
    sent or taken something; both are seconds of time.monotonic(). ``owner`` is
    the address by which connections are counted: of IPv6 the network of 64 bits,
    since a site has at least these.
    """

    def __init__(
        self,
        client: socket.socket,
        host: str,
        application: Application,
        begins: Callable[[Connection], None],
        tls: ssl.SSLContext | None = None,
        log: Log | None = None,
    ) -> None:
        self.host = host
        self.owner = _owner(host)
        self.answering = False
        self.last = False
        self.since = time.monotonic()
        self.deadline = self.since + REQUEST
        self.descriptor = client.fileno()
        self._socket = client
        self._application = application
        self._begins = begins
        self._tls = tls
        self._log = log
        self._dropped = False
        self._received = bytearray()
        self._later = False
        self._sent = 0
        self._had = 0
        self._queued = 0
        self._steps = self._talk()

    def step(self) -> int | None:
        """Continue as far as possible; return READ or WRITE to wait for, None at the end."""
        if not self._dropped:
            with contextlib.suppress(StopIteration):
                return next(self._steps)
        return None

    def drop(self) -> None:
        """End the connection, from any thread: the next step() is the last one, and comes soon."""
        self._dropped = True
        # NOTE: an SSLSocket's own shutdown() would change it while another thread uses it.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @property
    def dropped(self) -> bool:
        """Return whether drop() was called."""
        return self._dropped

    @property
    def begun(self) -> bool:
        """Return whether a request is under way."""
        return self.answering or bool(self._received)

    @property
    def rate(self) -> float:
        """Return the rate at which the client takes the present answer, in bytes per second."""
        return self.taken / max(time.monotonic() - self.since, 0.001)

    @property
    def taken(self) -> int:
        """Return how many bytes of the present answer the client has acknowledged."""
        return max(self._sent - self._unsent(), 0)

    def stalled(self) -> bool:
        """Return whether the client has taken no bytes since the last look, at its deadline.

        The kernel may hold megabytes for a client, which take longer than one
        deadline on a slow line. As long as they become fewer, the client gets
        another deadline.
        """
        queued, self._queued = self._queued, self._unsent()
        if not self.answering or 0 < queued <= self._queued:
            return True
        self.deadline = time.monotonic() + STALLED
        return False

    def close(self) -> None:
        """Close the socket. Only the thread that made the last step may call this."""
        self._steps.close()
        self._socket.close()

    def _unsent(self) -> int:
        """Return the bytes in the kernel that the client has not acknowledged."""
        with contextlib.suppress(OSError, ValueError):
            found = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
            return int(struct.unpack("i", found)[0])
        return 0

    def _talk(self) -> Steps[None]:
        try:
            yield from self._handshake()
            while (yield from self._exchange()):
                self._wait(IDLE)
                self._later = True
            yield from self._linger()
        except OSError as e:
            LOG.debug("%s: %s", self.host, e)
        except Exception as e:
            LOG.error("%s: %s: %s", self.host, type(e).__name__, e)

    def _wait(self, seconds: float, *, answering: bool = False) -> None:
        self.answering = answering
        self.since = time.monotonic()
        self.deadline = self.since + seconds

    def _handshake(self) -> Steps[None]:
        if self._tls:
            self._socket = self._tls.wrap_socket(
                self._socket, server_side=True, do_handshake_on_connect=False
            )
            yield from self._ready(READ, self._socket.do_handshake)

    def _exchange(self) -> Steps[bool]:
        """Answer one request; return whether another one may follow."""
        line = b""
        try:
            size = yield from self._head()
            if not size:
                return False
            taken = bytes(self._received[:size])
            line = _first_line(taken)
            del self._received[:size]
            head = http1.parse(taken)
            yield from self._body(head)
        except http1.Refused as e:
            line = line or _first_line(self._received)
            refusal = self._application.refuse(e.status, e.reason)
            self.last = True
            yield from self._answer(line, refusal, _environ(self.host), "HTTP/1.1")
            return False
        self.last |= head.length is None or head.waits or not head.persistent
        environ = _environ(self.host, head)
        yield from self._answer(line, self._application, environ, head.version)
        return not self.last

    def _head(self) -> Steps[int]:
        """Receive until the head of a request is whole; return its size, 0 if the client leaves."""
        if not (self._received or self._tls):
            # Hardly anything is there yet: waiting takes less time than trying.
            yield READ
        seen, begun = 0, not self._later
        while True:
            if not seen:
                # RFC 9112, 2.2: empty lines before a request are ignored.
                self._received[:] = self._received.lstrip(b"\r\n")
            size = http1.end(self._received, seen)
            if size > 0:
                return size
            seen = len(self._received)
            if not (yield from self._receive()):
                return 0
            if not begun:
                begun, self.deadline = True, time.monotonic() + REQUEST

    def _body(self, head: http1.Head) -> Steps[None]:
        """Read the body, which nothing needs, so that it is not parsed as the next request."""
        left = 0 if head.length is None or head.waits else head.length
        if left > BODY:
            raise http1.Refused(413, f"a body of more than {BODY} bytes")
        while left > len(self._received):
            left -= len(self._received)
            self._received.clear()
            if not (yield from self._receive()):
                raise ConnectionAbortedError("a body that does not end")
        del self._received[:left]

    def _receive(self) -> Steps[bool]:
        received = yield from self._ready(READ, self._socket.recv, _RECEIVED)
        self._received += received
        return bool(received)

    def _answer(
        self, line: bytes, application: WSGIApplication, environ: WSGIEnvironment, version: str
    ) -> Steps[None]:
        self._begins(self)
        self._wait(STALLED, answering=True)
        self._sent = 0
        answer = _Answer(version)
        body = application(environ, answer.start)
        try:
            yield from self._send_all(answer, body)
        finally:
            getattr(body, "close", lambda: None)()
            self._tell(line, answer)

    def _send_all(self, answer: _Answer, body: Iterable[bytes]) -> Steps[None]:
        part = body.content if isinstance(body, Body) else None
        if isinstance(part, ranges.FilePart) and len(part.span) > ranges.CHUNK and not self._tls:
            yield from self._send(answer.head(last=self.last), socket.MSG_MORE)
            yield from self._send_file(part)
            return
        # The head is sent with the first chunk, so that a small answer is one packet.
        ahead, left = answer.head(last=self.last), answer.length
        for chunk in body:
            left -= len(chunk)
            if left < 0:
                raise OverflowError("an answer that is longer than its length")
            yield from self._send(ahead + chunk)
            ahead = b""
        if ahead:
            yield from self._send(ahead)
        if 0 < left < answer.length:
            raise EOFError("an answer that is shorter than its length")
        yield from self._let_others(_TURN // 16)

    def _send_file(self, part: ranges.FilePart) -> Steps[None]:
        """Let the kernel send a part of a file, so that no byte of it is copied to us."""
        begin, end = part.span.start, part.span.stop
        file = part.file.fileno()
        while begin < end:
            size = min(end - begin, _TURN)
            sending = self._ready(WRITE, os.sendfile, self.descriptor, file, begin, size)
            try:
                count = yield from sending
            except OSError as e:
                if e.errno not in _NO_SENDFILE:
                    raise
                break
            if not count:
                raise EOFError(f"a file ends at {begin} that had {end} bytes or more")
            begin += count
            yield from self._after(count)
        for chunk in ranges.read(part.source, range(begin, end)):
            yield from self._send(chunk)

    def _send(self, content: bytes, flags: int = 0) -> Steps[None]:
        rest = memoryview(content)
        while rest:
            count = yield from self._ready(WRITE, self._socket.send, rest, flags)
            rest = rest[count:]
            yield from self._after(count)

    def _after(self, count: int) -> Steps[None]:
        """Count what was sent; let other connections continue after enough of it."""
        self._sent += count
        self.deadline = time.monotonic() + STALLED
        yield from self._let_others(count)

    def _let_others(self, count: int) -> Steps[None]:
        self._had += count
        if self._had >= _TURN:
            self._had = 0
            yield WRITE

    def _linger(self) -> Steps[None]:
        """Wait until the client has read all.

        If a socket is closed while it has unread bytes, the kernel resets the
        connection, and the client may lose what was sent.
        """
        self._wait(LINGER)
        if isinstance(self._socket, ssl.SSLSocket):
            # Tells the client that nothing follows; its reply is not needed.
            with contextlib.suppress(OSError, ValueError):
                self._socket.unwrap()
        socket.socket.shutdown(self._socket, socket.SHUT_WR)
        left = _LINGER_BYTES
        while left > 0:
            received = yield from self._ready(READ, socket.socket.recv, self._socket, _RECEIVED)
            left -= len(received) or left

    def _ready(self, event: int, function: Callable[..., _T], *arguments: Any) -> Steps[_T]:
        while True:
            try:
                return function(*arguments)
            except ssl.SSLWantReadError:
                event = READ
            except ssl.SSLWantWriteError:
                event = WRITE
            except BlockingIOError:
                pass
            if self.answering:
                self._queued = self._unsent()
            yield event

    def _tell(self, line: bytes, answer: _Answer) -> None:
        if self._log:
            sent = max(self._sent - answer.head_size, 0) or "-"
            request = _printable(line) or "-"
            self._log(f'{self.host} - - [{_now()}] "{request}" {answer.status[:3]} {sent}')


class _Answer:
    """The status and the headers of an answer, from a WSGI application."""

    def __init__(self, version: str) -> None:
        self.status = "-"
        self.length = 0
        self.head_size = 0
        self._version = version
        self._headers: list[tuple[str, str]] = []

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        """Take the status and the headers: WSGI's start_response (PEP 3333)."""
        self.status, self._headers = status, headers
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self.length = int(lengths[0]) if lengths else 0
        return _no_writing

    def head(self, *, last: bool) -> bytes:
        """Return the bytes before the body; with ``last``, they announce the connection's end."""
        more = [("Date", _date(int(time.time()))), ("Server", "image-uploader")]
        if last:
            more.append(("Connection", "close"))
        elif self._version == "HTTP/1.0":
            more.append(("Connection", "keep-alive"))
        lines = [f"HTTP/1.1 {self.status}", *(f"{n}: {v}" for n, v in (*self._headers, *more))]
        head = "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")
        self.head_size = len(head)
        return head


@functools.lru_cache(1)
def _date(seconds: int) -> str:
    return email.utils.formatdate(seconds, usegmt=True)


def _no_writing(content: bytes) -> None:
    raise NotImplementedError("this server sends what an application returns")


def _environ(client: str, head: http1.Head | None = None) -> WSGIEnvironment:
    """Return WSGI's environment of a request (PEP 3333), or of none if it was refused."""
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": head.method if head else "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": head.path if head else "/",
        "QUERY_STRING": head.query if head else "",
        "REMOTE_ADDR": client,
        "SERVER_NAME": "image-uploader",
        "SERVER_PORT": "0",
        "SERVER_PROTOCOL": head.version if head else "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in head.fields.items() if head else ():
        # NOTE: WSGI has one name for "a-b" and "a_b": a client must not forge one with the other.
        if "_" not in name and name not in ("content-length", "content-type"):
            environ["HTTP_" + name.upper().replace("-", "_")] = value
    return environ


def _owner(host: str) -> str:
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.version == 4 or address.ipv4_mapped:
        return host
    return str(ipaddress.ip_network((int(address), 64), strict=False))


def _first_line(received: bytes | bytearray) -> bytes:
    return bytes(received[: http1.LINE]).partition(b"\n")[0].rstrip(b"\r")


def _printable(text: bytes) -> str:
    """Return a client's text as Apache logs it: without control characters and quotes."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}"
        for byte in text
    )


def _now() -> str:
    # NOTE: strftime's %b depends on the locale.
    now = time.localtime()
    month = _MONTHS[now.tm_mon - 1]
    return time.strftime(f"%d/{month}/%Y:%H:%M:%S %z", now)
