# SPDX-License-Identifier: Apache-2.0

import contextlib
import threading
from collections.abc import Iterator
from email.message import Message

import pytest

from image_uploader_plugins.testing import web_server
from image_uploader_plugins.testing.web_server import Answer
from tests.support import raw

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def forever() -> Iterator[bytes]:
    while True:
        yield bytes(65536)


@pytest.mark.parametrize("said", [b"", b"GET", REQUEST])
def test_it_ends_with_its_connections_and_threads(said: bytes) -> None:
    """Whatever a client keeps open: nothing is left that could call the application."""

    def answer(path: str, headers: Message) -> Answer:
        return Answer(200, {}, forever())

    before = set(threading.enumerate())
    with contextlib.ExitStack() as clients:
        with web_server.serving(answer) as address:
            client = clients.enter_context(raw.connected(address))
            client.sendall(said)
            # Whoever is answered later has come later.
            other = clients.enter_context(raw.connected(address))
            other.sendall(REQUEST)
            assert other.recv(1)
        assert not set(threading.enumerate()) - before
