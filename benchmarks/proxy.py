# SPDX-License-Identifier: Apache-2.0
"""A proxy before a registry that counts requests and bytes, and breaks off large blobs."""

from __future__ import annotations

import collections
import contextlib
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from image_uploader_plugins.testing import web_server

_CHUNK = 1024 * 1024
_LARGE = 1024 * 1024  # bytes from which a blob may be broken off
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host"})


class Traffic:
    """What has passed: ``requests`` by method and kind, and the ``bytes`` of blobs.

    ``cuts`` is how many times a large blob breaks off after ``length`` bytes.
    """

    def __init__(self, cuts: int = 0, length: int = 0) -> None:
        self.requests: collections.Counter[str] = collections.Counter()
        self.bytes = 0
        self.length = length
        self._cuts = cuts
        self._lock = threading.Lock()

    def count(self, method: str, path: str) -> None:
        """Count a request."""
        kinds = [kind for kind in ("manifests", "blobs", "referrers", "tags") if kind in path]
        with self._lock:
            self.requests[f"{method} {kinds[0] if kinds else 'other'}"] += 1

    def passed(self, size: int) -> None:
        """Count bytes of a blob."""
        with self._lock:
            self.bytes += size

    def cut(self, size: int) -> bool:
        """Return whether an answer of this size is to break off, which is one of the cuts."""
        with self._lock:
            if size < _LARGE or size <= self.length or not self._cuts:
                return False
            self._cuts -= 1
            return True


@contextlib.contextmanager
def before(server: str, traffic: Traffic) -> Iterator[str]:
    """Run a proxy before the registry at ``server``; yield its address."""
    proxy = _Proxy(("127.0.0.1", 0), _Handler)
    proxy.upstream, proxy.traffic = server, traffic
    with web_server.running(proxy) as address:
        yield address


class _Proxy(web_server.Server):
    upstream: str
    traffic: Traffic


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def do_GET(self) -> None:
        self._relay()

    def do_HEAD(self) -> None:
        self._relay()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def _relay(self) -> None:
        self.server.traffic.count(self.command, self.path)
        with contextlib.closing(http.client.HTTPConnection(self.server.upstream)) as connection:
            connection.putrequest(self.command, self.path, skip_accept_encoding=True)
            # Clients send several lines with the name Accept.
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self._pass(answer)

    def _pass(self, answer: http.client.HTTPResponse) -> None:
        traffic, is_blob = self.server.traffic, "/blobs/" in self.path
        left = int(answer.headers.get("Content-Length") or 0)
        if is_blob and traffic.cut(left):
            left = traffic.length
            self.close_connection = True
        while left > 0 and (chunk := answer.read(min(_CHUNK, left))):
            left -= len(chunk)
            self.wfile.write(chunk)
            if is_blob:
                traffic.passed(len(chunk))
