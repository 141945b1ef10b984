"""The embedded server: a tree behind cheroot, with bounds for clients that are slow or many."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cheroot import makefile, server, wsgi
from cheroot.ssl import Adapter

from image_uploader_plugins import errors
from image_uploader_plugins.server import TreeServer

LOG = logging.getLogger(__name__)

# A thread is busy for as long as a client takes to read a blob, and podman
# reads six at a time: ten such clients at once.
_THREADS = 64
# Connections that wait for a thread, and connections that wait for a request.
# With the threads and their files they stay below the 1024 descriptors that a
# process usually has.
_QUEUE = 256
_IDLE = 256
# Connections that the kernel keeps until they are accepted.
_BACKLOG = 128
# Seconds without a byte after which a client is gone, and for a whole request.
_SILENCE = 30
_REQUEST = 30
# Seconds for requests in flight at the end; "docker stop" waits for ten.
STOPPING = 8
# Bytes. Apache's limit is 8190 a line, nginx's 32 kB; skopeo sends about one.
_HEADER = 16 * 1024
# A push is told that it is none; more than this of it is not read.
_BODY = 64 * 1024

_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Log = Callable[[str], None]


class _Request(server.HTTPRequest):
    """A request, which is told of in one line when it is over."""

    def __init__(self, listener: Listener, connection: _Connection) -> None:
        # NOTE: every server must accept the absolute form (RFC 9112, 3.2.2);
        # cheroot does as a proxy alone, and forwards nothing then.
        super().__init__(listener, connection, proxy_mode=True)
        self.uri = self.method = self.request_protocol = b""
        self._sent = 0

    def respond(self) -> None:
        # NOTE: cheroot would take what is left of these bodies for the next request.
        length = self.inheaders.get(b"Content-Length", b"0")
        self.close_connection |= self.chunked_read or not length.isdigit()
        try:
            super().respond()
        finally:
            # cheroot begins with a str and goes on with bytes.
            self._log(self.status.decode() if isinstance(self.status, bytes) else self.status)

    def simple_response(self, status: str, msg: str = "") -> None:
        super().simple_response(status, msg)
        # While it answers, respond() will log.
        if not self.ready:
            self._log(status)

    def send_headers(self) -> None:
        # The rest of the request is read in here.
        super().send_headers()
        self.conn.answers()

    def write(self, chunk: bytes) -> None:
        super().write(chunk)
        self._sent += len(chunk)

    def _log(self, status: str) -> None:
        if self.server.log:
            line = (
                _printable(b" ".join((self.method, self.uri, self.request_protocol)).strip()) or "-"
            )
            sent = self._sent or "-"
            client = self.conn.remote_addr or "-"
            self.server.log(f'{client} - - [{_now()}] "{line}" {status[:3] or "-"} {sent}')


class _Connection(server.HTTPConnection):
    RequestHandlerClass = _Request

    def communicate(self) -> bool:
        self.server.active[self] = time.monotonic() + _REQUEST
        try:
            if isinstance(self.socket, ssl.SSLSocket) and not self.socket.version():
                self.socket.do_handshake()
            return bool(super().communicate())  # type: ignore[no-untyped-call]
        except OSError as e:
            LOG.debug("%s: %s", self.remote_addr, e)
            return False
        finally:
            self.server.active.pop(self, None)

    def answers(self) -> None:
        """The request is read; the answer may take as long as bytes are taken."""
        self.server.active[self] = math.inf

    def abort(self) -> None:
        """Wake the thread that reads or writes here; it finds the connection closed."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


class _Tls(Adapter):
    """TLS whose handshake is made by the thread that answers.

    NOTE: cheroot's own makes it in the thread that accepts, where one client
    that says nothing keeps all others waiting.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def bind(self, sock: socket.socket) -> socket.socket:
        return sock

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        wrapped = self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return wrapped, self.get_environ()

    def get_environ(self) -> dict[str, Any]:
        return {}

    def makefile(self, sock: socket.socket, mode: str = "r", bufsize: int = -1) -> Any:
        return makefile.MakeFile(sock, mode, bufsize)


class Listener(wsgi.Server):
    """Serves the tree at ``root``; ``log`` gets a line for each request.

    Port 0 takes a free one.  stop() lets requests in flight end, for at most
    STOPPING seconds.
    """

    ConnectionClass = _Connection
    keep_alive_conn_limit = _IDLE
    max_request_header_size = _HEADER
    max_request_body_size = _BODY

    def __init__(
        self,
        root: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        log: Log | None = None,
    ) -> None:
        super().__init__(
            (host, port),
            TreeServer(root),
            numthreads=_THREADS,
            server_name="image-uploader",
            request_queue_size=_BACKLOG,
            timeout=_SILENCE,
            shutdown_timeout=STOPPING,
            accepted_queue_size=_QUEUE,
            accepted_queue_timeout=0,
        )
        self.ssl_adapter = _Tls(tls) if tls else None
        self.log = log
        # Connections that a thread has, and until when (monotonic seconds) it may.
        self.active: dict[_Connection, float] = {}
        self._refusal: OSError | None = None
        self._stopped = threading.Event()

    @property
    def address(self) -> str:
        """``host:port``, as a URL has it."""
        host, port = self.bind_addr
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.ssl_adapter else 'http'}://{self.address}"

    def prepare(self) -> None:
        """Listen; raises ConfigurationError that names the address."""
        try:
            super().prepare()
        except (OSError, UnicodeError) as e:  # the latter of names that DNS cannot have
            refusal = self._refusal or e
            reason = getattr(refusal, "strerror", None) or str(refusal)
            raise errors.ConfigurationError(f"cannot listen on {self.address}: {reason}") from e

    def bind(self, family: int, type: int, proto: int = 0) -> Any:
        try:
            return super().bind(family, type, proto)
        except OSError as e:
            self._refusal = e  # cheroot makes text of it
            raise

    def process_conn(self, conn: _Connection) -> None:
        """Give a connection to a thread, a new one only once it has said something."""
        if conn.last_used is not None:
            super().process_conn(conn)
        elif self.can_add_keepalive_connection:
            self.put_conn(conn)
        else:
            conn.close()

    def serve(self) -> None:
        watch = threading.Thread(target=self._watch)
        watch.start()
        try:
            super().serve()
        finally:
            self._stopped.set()
            watch.join()

    def stop(self) -> None:
        self._stopped.set()
        last_call = threading.Timer(STOPPING, self._abort, [math.inf])
        last_call.start()
        try:
            super().stop()
        finally:
            last_call.cancel()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        LOG.log(level, "%s", _printable(msg.encode(errors="replace")))

    def _watch(self) -> None:
        while not self._stopped.wait(1):
            self._abort(time.monotonic())

    def _abort(self, now: float) -> None:
        for connection, until in list(self.active.items()):
            if until <= now:
                connection.abort()


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For TLS 1.2 and later; raises ConfigurationError that names the file at fault.

    ``certificate`` may hold the chain that leads to its CA after it.
    """
    for path, begin in ((certificate, b"-----BEGIN CERTIFICATE-----"), (key, b"PRIVATE KEY-----")):
        if begin not in _read(path):
            kind = "certificate" if path == certificate else "private key"
            raise errors.ConfigurationError(f"{path} holds no {kind} in PEM")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=lambda: _no_password(key))
    except ssl.SSLError as e:
        if e.reason == "KEY_VALUES_MISMATCH":
            raise errors.ConfigurationError(f"{key} is not the key of {certificate}") from e
        raise errors.ConfigurationError(
            f"{certificate} and {key} cannot be used: {e.reason or e}"
        ) from e
    return context


def run(listener: Listener, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; ``ready`` gets the URL once it listens.

    For the main thread.  Raises ConfigurationError, or what ended the server.
    """
    # Threads inherit the mask, so that the signal comes here and nowhere else.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        with _listening(listener) as thread:
            ready(listener.url)
            while thread.is_alive() and not signal.sigtimedwait(_STOP_SIGNALS, 1):
                pass
            if not thread.is_alive():
                raise errors.UploaderError(f"the server ended: {listener.interrupt!r}")
    finally:
        # Whoever was impatient meant the same.
        while signal.sigtimedwait(_STOP_SIGNALS, 0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def serving(root: Path, tls: ssl.SSLContext | None = None, log: Log | None = None) -> Iterator[str]:
    """Serve the tree at ``root`` on a free port of 127.0.0.1; yields ``host:port``."""
    listener = Listener(root, tls=tls, log=log)
    with _listening(listener):
        yield listener.address


@contextlib.contextmanager
def _listening(listener: Listener) -> Iterator[threading.Thread]:
    listener.prepare()
    thread = threading.Thread(target=listener.serve)
    thread.start()
    try:
        yield thread
    finally:
        listener.stop()
        thread.join()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise errors.ConfigurationError(f"cannot read {path}: {os.strerror(e.errno or 0)}") from e


def _no_password(key: Path) -> str:
    # OpenSSL would ask on the terminal.
    raise errors.ConfigurationError(f"{key} is encrypted; a server needs a key without a password")


def _printable(text: bytes) -> str:
    """Text of a client's, harmless on a terminal and in a log; as Apache writes it."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}"
        for byte in text
    )


def _now() -> str:
    # NOTE: strftime's month is the locale's.
    now = time.localtime()
    month = _MONTHS[now.tm_mon - 1]
    return time.strftime(f"%d/{month}/%Y:%H:%M:%S %z", now)
