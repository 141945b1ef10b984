# SPDX-License-Identifier: Apache-2.0
"""Between a client and a server, to see what a client asks for and how much it gets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.support import raw


class Traffic:
    """What passed: the requests' bytes, and how many bytes came back."""

    def __init__(self) -> None:
        self.asked = b""
        self.received = 0
        self._lock = threading.Lock()

    def add(self, content: bytes, *, asking: bool) -> None:
        with self._lock:
            if asking:
                self.asked += content
            else:
                self.received += len(content)


@contextlib.contextmanager
def between(server: str) -> Iterator[tuple[str, Traffic]]:
    """Yields ``host:port`` to be asked in the place of ``server``, and what passes there."""
    traffic = Traffic()
    host, _, port = server.rpartition(":")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_take, args=[listening, (host, int(port)), traffic])
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}", traffic
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _take(listening: socket.socket, server: tuple[str, int], traffic: Traffic) -> None:
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        while True:
            client = stack.enter_context(listening.accept()[0])
            behind = stack.enter_context(socket.create_connection(server, raw.TIMEOUT))
            for here, there in ((client, behind), (behind, client)):
                here.settimeout(raw.TIMEOUT)
                thread = threading.Thread(target=_pass, args=[here, there, traffic, here is client])
                thread.start()
                stack.callback(_end, here, thread)


def _end(here: socket.socket, thread: threading.Thread) -> None:
    with contextlib.suppress(OSError):
        here.shutdown(socket.SHUT_RDWR)
    thread.join()


def _pass(here: socket.socket, there: socket.socket, traffic: Traffic, asking: bool) -> None:
    with contextlib.suppress(OSError):
        while content := here.recv(65536):
            traffic.add(content, asking=asking)
            there.sendall(content)
        there.shutdown(socket.SHUT_WR)
