# SPDX-License-Identifier: Apache-2.0
"""A minimal web server for the answers of a registry or of a tree."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclasses.dataclass(frozen=True)
class Answer:
    """A status, headers and a body; chunked unless there is a Content-Length."""

    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: Iterable[bytes] = ()

    @classmethod
    def of(cls, content: bytes, media_type: str, **headers: str) -> Answer:
        """Return an answer of status 200; a ``_`` in the name of a header stands for a hyphen."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        fields |= {"Content-Type": media_type, "Content-Length": str(len(content))}
        return cls(200, fields, [content])


NOT_FOUND = Answer(404, {"Content-Length": "0"})

Application = Callable[[str, Message], Answer]
"""A function of a path (with its query) and request headers; for GET and HEAD."""


@contextlib.contextmanager
def serving(application: Application) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1 until the block ends; yield ``host:port``."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.application = application
    with running(server) as address:
        yield address


class Server(ThreadingHTTPServer):
    """A server that ends with all its connections and threads.

    Clients may keep connections open.  A thread that went on would close its
    files, and call the application, while somebody else counts what is open.
    """

    daemon_threads = False  # those are not waited for
    # Of five alone the rest would be turned away, and try again after a second, then two more.
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection."""
        # The head and the body of an answer are sent apart: the body would wait for 40 ms.
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """End all connections, and wait for their threads."""
        for connection in list(self._connections):
            # NOTE: an SSLSocket's own shutdown() would change it while its thread uses it.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: clients break off connections, and some try TLS first."""


@contextlib.contextmanager
def running(server: Server) -> Iterator[str]:
    """Run a server that listens on 127.0.0.1 until the block ends; yield ``host:port``."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(Server):
    application: Application


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def _answer(self, *, body: bool) -> None:
        answer = self.server.application(self.path, self.headers)
        length = answer.headers.get("Content-Length")
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if body and length is None:
            self._write_chunked(answer.body)
        elif body:
            written = sum(map(self.wfile.write, answer.body))
            self.close_connection = self.close_connection or written != int(length or 0)

    def _write_chunked(self, body: Iterable[bytes]) -> None:
        for chunk in filter(None, body):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")
