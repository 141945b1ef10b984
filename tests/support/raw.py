# SPDX-License-Identifier: Apache-2.0
"""Requests byte by byte, as no library sends them."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser

TIMEOUT = 30  # seconds


@contextlib.contextmanager
def connected(server: str, tls: ssl.SSLContext | None = None) -> Iterator[socket.socket]:
    """A connection to ``host:port``."""
    host, _, port = server.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as plain:
        if tls is None:
            yield plain
            return
        with tls.wrap_socket(plain, server_hostname=host) as wrapped:
            yield wrapped


def exchange(server: str, request: bytes) -> tuple[int, Message, bytes]:
    """Send ``request`` and read to the end: status, headers and body."""
    with connected(server) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    return int(line.split()[1]), BytesParser().parsebytes(fields), body


def get(
    server: str, target: str, method: str = "GET", **headers: str
) -> tuple[int, Message, bytes]:
    """One request for ``target`` as it is, on a connection that is closed afterwards."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Host": server, "Connection": "close", **named}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return exchange(server, "\r\n".join([*lines, "", ""]).encode("latin-1"))
