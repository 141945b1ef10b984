# SPDX-License-Identifier: Apache-2.0
"""Three hundred clients that take what they can get, and those that still want an answer."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import raw, tls, trees, web

ATTACKERS = 300
GOOD = 60
BLOB = "sha256:" + "0" * 64
IMAGE = images.corpus()[0]
MANIFEST = f"/v2/{IMAGE.repository}/manifests/{IMAGE.tag}"
LAYER, CONTENT = next(iter(IMAGE.blobs.items()))
REQUEST = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = f"GET /v2/{IMAGE.repository}/blobs/{BLOB} HTTP/1.1\r\nHost: x\r\n\r\n".encode()

Attack = Callable[[list[socket.socket], threading.Event], None]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with web.open_folder() as folder:
        tls.make(folder)
        with LocalExportDriver(folder / "tree") as driver:
            trees.put(driver, IMAGE)
        path = folder / "tree" / "v2" / IMAGE.repository.value / "blobs" / BLOB
        with path.open("wb") as blob:
            blob.truncate(256 * 1024 * 1024)
        yield folder


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Let this process have as many descriptors as one usually may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def say(clients: list[socket.socket], said: bytes) -> None:
    for client in clients:
        with contextlib.suppress(OSError):
            client.sendall(said)


def nothing(clients: list[socket.socket], over: threading.Event) -> None:
    """Open connections that send nothing, with TLS no handshake either."""


def drip(clients: list[socket.socket], over: threading.Event) -> None:
    """Send headers a byte at a time (slowloris)."""
    for byte in b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000:
        say(clients, bytes([byte]))
        if over.wait(0.05):
            return


def keep(clients: list[socket.socket], over: threading.Event) -> None:
    """Send a request each, and keep the connections open."""
    say(clients, REQUEST)


def body(clients: list[socket.socket], over: threading.Event) -> None:
    """Announce bodies that never come."""
    say(clients, b"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\nx")


def stare(clients: list[socket.socket], over: threading.Event) -> None:
    """Ask for answers, and never read them."""
    say(clients, LARGE)


def sip(clients: list[socket.socket], over: threading.Event) -> None:
    """Ask for answers, and read them as slowly as possible."""
    say(clients, LARGE)
    while not over.wait(0.05):
        for client in clients:
            with contextlib.suppress(OSError):
                client.recv(1024)


def begin(clients: list[socket.socket], over: threading.Event) -> None:
    """Begin handshakes of TLS, and never end them."""
    say(clients, b"\x16\x03\x01\x02\x00\x01\x00")


@contextlib.contextmanager
def attacked(server: str, attack: Attack) -> Iterator[None]:
    """Have ATTACKERS at ``server`` meanwhile, in the way that ``attack`` is one."""
    over = threading.Event()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(raw.connected(server)) for _ in range(ATTACKERS)]
        for client in clients:
            client.settimeout(0.001)
        thread = threading.Thread(target=attack, args=[clients, over])
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def answered(url: str, verify: str | bool) -> int:
    """Return how many of GOOD requests, each on its own connection, are answered right."""
    count = 0
    for number in range(GOOD):
        target = (MANIFEST, f"/v2/{IMAGE.repository}/blobs/{LAYER}")[number % 2]
        with contextlib.suppress(requests.RequestException):
            answer = requests.get(url + target, verify=verify, timeout=raw.TIMEOUT)
            expected = CONTENT if number % 2 else IMAGE.manifest.content
            count += answer.status_code == 200 and answer.content == expected
    return count


@pytest.mark.slow
@pytest.mark.parametrize("attack", [nothing, drip, keep, body, stare, sip])
def test_http(folder: Path, attack: Attack) -> None:
    with web.started(folder / "tree") as (process, url):
        before = peak(process.pid)
        with attacked(url.removeprefix("http://"), attack):
            assert answered(url, verify=True) == GOOD
        assert peak(process.pid) - before < 64 * 1024


@pytest.mark.slow
@pytest.mark.parametrize("attack", [nothing, begin])
def test_tls(folder: Path, attack: Attack) -> None:
    certificate, key = folder / tls.CERTIFICATE, folder / tls.KEY
    options = ("--tls-certificate", certificate, "--tls-key", key)
    with (
        web.command(folder / "tree", *options) as url,
        attacked(url.removeprefix("https://"), attack),
    ):
        assert answered(url, verify=str(certificate)) == GOOD


@pytest.mark.slow
def test_tls_readers(folder: Path) -> None:
    """Readers over TLS take a bounded memory, with the keys and buffers of each."""
    certificate, key = folder / tls.CERTIFICATE, folder / tls.KEY
    options = ("--tls-certificate", certificate, "--tls-key", key)
    trusting = ssl.create_default_context(cafile=certificate)
    with (
        web.started(folder / "tree", *options) as (process, url),
        contextlib.ExitStack() as stack,
    ):
        server = url.removeprefix("https://")
        before = peak(process.pid)
        for _ in range(ATTACKERS):
            client = stack.enter_context(raw.connected(server, trusting))
            client.sendall(LARGE)
        assert answered(url, verify=str(certificate)) == GOOD
        assert peak(process.pid) - before < 128 * 1024


def peak(pid: int) -> int:
    """Return the most memory that a process has had, in kB."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1])
