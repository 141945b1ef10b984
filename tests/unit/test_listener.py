"""Clients of the embedded server that are slow, silent or too many.

The limits are made small, so that each is met; no test measures time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import listener
from image_uploader_plugins.demo import images
from image_uploader_plugins.local_export.driver import LocalExportDriver
from tests.support import raw, tls, trees

BLOB = "sha256:" + "0" * 64
WHOLE = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("listener") / "tree"
    image = images.corpus()[0]
    with LocalExportDriver(root) as driver:
        trees.put(driver, image)
    with (root / "v2" / image.repository.value / "blobs" / BLOB).open("wb") as blob:
        blob.truncate(256 * 1024 * 1024)
    return root


@contextlib.contextmanager
def one_thread(tree: Path, monkeypatch: pytest.MonkeyPatch, **limits: int) -> Iterator[str]:
    for name, value in {"_THREADS": 1, **limits}.items():
        monkeypatch.setattr(listener, name, value)
    with listener.serving(tree) as server:
        yield server


def ended(connection: socket.socket) -> bool:
    """Wait for the server to close a connection, whatever it says before."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65536):
            pass
    return True


def test_silent_clients_hold_no_thread(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with one_thread(tree, monkeypatch) as server, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(raw.connected(server))
        assert raw.get(server, "/v2/")[0] == 200


def test_silent_clients_of_tls(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cheroot's own adapter waits for each in the thread that accepts."""
    certificate, key = tls.make(tmp_path)
    context = listener.tls_context(certificate, key)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(listener, "_THREADS", 1)
    with listener.serving(tree, context) as server, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(raw.connected(server))
        with raw.connected(server, trusting) as connection:
            connection.sendall(WHOLE)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "begun", [b"G", b"GET /v2/ HTTP/1.1\r\nHost:", b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\n1"]
)
def test_a_request_must_end(tree: Path, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    with one_thread(tree, monkeypatch, _REQUEST=0) as server, raw.connected(server) as connection:
        connection.sendall(begun)
        assert ended(connection)


def test_a_handshake_must_end(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = listener.tls_context(*tls.make(tmp_path))
    monkeypatch.setattr(listener, "_REQUEST", 0)
    with listener.serving(tree, context) as server, raw.connected(server) as connection:
        connection.sendall(b"\x16\x03\x01")
        assert ended(connection)


def test_no_more_than_so_many_wait(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener.Listener, "keep_alive_conn_limit", 2)
    with one_thread(tree, monkeypatch) as server, contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(raw.connected(server)) for _ in range(3))
        assert ended(third)
        for connection in (first, second):
            connection.sendall(WHOLE)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_stopping_has_an_end(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes nothing more is left behind."""
    monkeypatch.setattr(listener, "STOPPING", 0.2)
    with contextlib.ExitStack() as stack:
        with listener.serving(tree) as server:
            connection = stack.enter_context(raw.connected(server))
            connection.sendall(f"GET /v2/base/blobs/{BLOB} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(1)
        assert ended(connection)


def test_where_nothing_can_be_logged(tree: Path) -> None:
    """An answer does not depend on its line."""

    def log(line: str) -> None:
        raise BrokenPipeError

    with listener.serving(tree, log=log) as server:
        for _ in range(2):
            assert raw.get(server, "/v2/")[0] == 200
