# SPDX-License-Identifier: Apache-2.0
"""A registry that answers request by request as it is told to, also by TLS."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import ssl
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.registry import SourceRegistry
from image_uploader_plugins.testing.web_server import Server, running


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request; ``path`` is without the query, and ``raw`` all of it as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes
    raw: bytes = b""

    @property
    def authorization(self) -> str | None:
        return self.headers["Authorization"]


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer; headers may stand twice, and the body breaks off after ``cut`` bytes.

    Its length is told, unless it just goes on ``until_closed``.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    cut: int | None = None
    until_closed: bool = False


Hook = Callable[[Asked], Reply | None]
"""What to answer; None for what a registry would."""


def usual(asked: Asked) -> None:
    """Have everything answered as a registry would."""


class OddRegistry:
    """Holds ``images``; ``asked`` are the requests so far, ``connections`` where they came from."""

    def __init__(self, images: Iterable[Image] = (), hook: Hook = usual) -> None:
        self.hook = hook
        self.asked: list[Asked] = []
        self.connections: list[object] = []
        self._content = SourceRegistry(images)

    def add(self, image: Image) -> None:
        self._content.add(image)

    @property
    def manifests(self) -> dict[tuple[str, str], Manifest]:
        """What is answered for a repository and a tag or digest in it."""
        return self._content.manifests

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        reply = self.hook(asked)
        if reply is not None:
            return reply
        answer = self._content(asked.path, asked.headers)
        body = b"".join(answer.body)
        headers = [pair for pair in answer.headers.items() if pair[0] != "Content-Length"]
        return Reply(answer.status, tuple(headers), body)

    def paths(self, part: str = "") -> list[str]:
        """The paths that were asked for, those with ``part`` in them."""
        return [asked.path for asked in self.asked if part in asked.path]

    def raw(self) -> bytes:
        """All that came."""
        return b"".join(asked.raw for asked in self.asked)

    def seen(self) -> set[str | None]:
        """The Authorizations that came."""
        return {asked.authorization for asked in self.asked}


def challenge(*fields: str) -> Reply:
    return Reply(401, tuple(("WWW-Authenticate", field) for field in fields), b"{}")


def text(value: Any, status: int = 200, *headers: tuple[str, str]) -> Reply:
    """An answer in JSON."""
    return Reply(status, headers, json.dumps(value).encode())


@contextlib.contextmanager
def serving(
    registry: OddRegistry,
    tls: tuple[Path, Path] | None = None,
    clients: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1, or as told; yields ``host:port``.

    ``tls`` are a certificate and its key; with ``clients``, a CA, only those
    with a certificate of its are let in.
    """
    server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
    server.registry = registry
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    with running(server):
        yield f"[{host}]:{server.server_port}" if ":" in host else f"{host}:{server.server_port}"


class _Server(Server):
    registry: OddRegistry


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    raw_requestline: bytes  # which the library sets and nobody has declared

    def setup(self) -> None:
        super().setup()
        self.server.registry.connections.append(self.client_address)

    def do_GET(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(
            self.command,
            parts.path,
            urllib.parse.parse_qs(parts.query, keep_blank_values=True),
            self.headers,
            body,
            b"".join([self.raw_requestline, self.headers.as_bytes(), body]),
        )
        reply = self.server.registry.answer(asked)
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        told = any(name == "Content-Length" for name, _ in reply.headers)
        if not told and not reply.until_closed:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: reply.cut])
        self.close_connection |= reply.cut is not None or reply.until_closed

    do_HEAD = do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Tests need no log."""
