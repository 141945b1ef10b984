# SPDX-License-Identifier: Apache-2.0
"""The embedded server: a tree for clients that may be slow, silent or too many.

One thread takes new clients.  Another waits for all sockets (epoll) and makes
the steps of those clients whose socket is ready; where the disk keeps it, one
more goes on.  A client that is waited for costs no thread, only its place.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import logging
import math
import os
import resource
import select
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.serving.application import TreeServer
from image_uploader_plugins.serving.connection import READ, Connection, Log
from image_uploader_plugins.serving.turns import Turns

LOG = logging.getLogger(__name__)

# Steps at a time, and seconds after which a step is one that the disk keeps: what
# blocks in one is the disk, never a client.
_THREADS = 16
_LONG = 0.1
# Descriptors, of which a process usually may have 1024, and those for all but clients.
_DESCRIPTORS = 1024
_RESERVED = 48
# The part of the places that one address may have.
_SHARE = 3 / 4
# Seconds in which no client counts as slow.
_YOUNG = 1
# Clients that the kernel keeps until they are taken, and that are taken in one go.
_BACKLOG = 511
_AT_ONCE = 16
# Seconds between looks at deadlines, and without a descriptor for a new client.
_TICK = 1.0
_PAUSE = 0.1
# Seconds for requests in flight at the end; "docker stop" waits for ten.
STOPPING = 8

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


class Listener:
    """Serves the tree at ``root``; ``log`` gets a line for each request.

    Port 0 takes a free one.  Pages of ``allow_origins`` may read the answers
    in a browser.  stop() lets requests in flight end, for at most STOPPING
    seconds.
    """

    def __init__(
        self,
        root: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        log: Log | None = None,
        allow_origins: Collection[str] = (),
    ) -> None:
        self.failure: BaseException | None = None
        self._application = TreeServer(root, allow_origins)
        self._host, self._port = host, port
        self._tls = tls
        self._log = log
        # Of every five descriptors: one for a client that is waited for, four for two answers.
        self._unit = _descriptors() // 5
        self._clients: dict[int, Connection] = {}
        self._ready: collections.deque[Connection] = collections.deque()
        self._turns = Turns()
        self._poll = select.epoll()
        self._nudge = _eventfd(self._poll)
        self._door = select.epoll()
        self._wake = _eventfd(self._door)
        self._socket: socket.socket
        self._paused_until = 0.0
        self._looked = 0.0
        self._stop_at = math.inf

    @property
    def address(self) -> str:
        """Return ``host:port``, as a URL has it."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    @property
    def url(self) -> str:
        """Return the URL of the registry, with the port that listens."""
        return f"{'https' if self._tls else 'http'}://{self.address}"

    def prepare(self) -> None:
        """Listen; raise ConfigurationError, which names the address."""
        try:
            self._socket = _listen(self._host, self._port)
        except (OSError, UnicodeError) as e:  # the latter of names that DNS cannot have
            reason = getattr(e, "strerror", None) or str(e)
            raise errors.ConfigurationError(f"cannot listen on {self.address}: {reason}") from e
        self._host, self._port = self._socket.getsockname()[:2]
        self._door.register(self._socket, select.EPOLLIN)

    def serve(self) -> None:
        """Serve until stop(); in ``failure`` is what ended it otherwise."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        self._turns.offer()
        try:
            while self._goes_on():
                self._turn()
        except BaseException as e:
            self.failure = e
            LOG.exception("the server ends")
        finally:
            self._end(threads)

    def stop(self) -> None:
        """Take no new client, and end serve() when those that are answered have their answer."""
        self._stop_at = min(self._stop_at, time.monotonic() + STOPPING)
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def _goes_on(self) -> bool:
        if self._stop_at == math.inf:
            return True
        self._socket.close()
        self._paused_until = 0.0
        late = time.monotonic() >= self._stop_at
        for client in list(self._clients.values()):
            client.last = True
            if late or not client.begun:
                client.drop()
        # A thread that the disk keeps is left behind.
        return bool(self._clients) and time.monotonic() < self._stop_at + _TICK

    def _turn(self) -> None:
        """Wait for new clients, and see to those that are late and to a step that takes long."""
        for descriptor, _ in self._door.poll(self._patience()):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            else:
                self._take()
        self._look()
        self._turns.relieve(_LONG)

    def _patience(self) -> float:
        if self._stop_at != math.inf or self._paused_until:
            return min(_TICK, _PAUSE)  # no event tells when the last client has left
        return min(_TICK, _LONG)

    def _work(self) -> None:
        while (turn := self._turns.wait()) is not None:
            while self._turns.is_present(turn):
                try:
                    self._go_on(turn)
                except BaseException:
                    self._turns.offer()  # this thread ends, not the server
                    raise
            # Whoever has the turn now may wait for sockets that this thread was told of.
            os.eventfd_write(self._nudge, 1)

    def _go_on(self, turn: int) -> None:
        """Make the step of a client that is ready, or wait for one."""
        try:
            client = self._ready.popleft()
        except IndexError:
            self._ready.extend(self._wait())
            return
        with self._turns.step(turn):
            self._step(client)

    def _wait(self) -> Iterator[Connection]:
        for descriptor, _ in self._poll.poll():
            if descriptor == self._nudge:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._nudge)
            else:
                yield self._clients[descriptor]

    def _step(self, client: Connection) -> None:
        event = client.step()
        if event is not None:
            # NOTE: from here on it may be another thread's.
            self._poll.modify(client.descriptor, event | select.EPOLLONESHOT)
            return
        del self._clients[client.descriptor]
        with contextlib.suppress(OSError):
            client.close()

    def _take(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._take_one():
                return

    def _take_one(self) -> bool:
        """Take one new client; return whether there may be another one."""
        try:
            client, address = self._socket.accept()
        except OSError as e:
            if e.errno in _NO_DESCRIPTOR:
                self._pause()
            # Of any other error it is the client's: it is gone already.
            return e.errno not in (*_NO_DESCRIPTOR, errno.EAGAIN)
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(
            client, address[0], self._application, self._begins, self._tls, self._log
        )
        self._make_room(connection.owner, answering=False)
        self._clients[connection.descriptor] = connection
        self._poll.register(connection.descriptor, READ | select.EPOLLONESHOT)
        return True

    def _make_room(self, owner: str, *, answering: bool) -> None:
        """Drop a client that waits for a request, or for an answer, where a new one is too many."""
        places = self._unit * (2 if answering else 1)
        if len(self._clients) < places * _SHARE:
            return
        rivals = [client for client in self._present() if client.answering == answering]
        own = [client for client in rivals if client.owner == owner]
        if len(own) >= places * _SHARE:
            _missed_least(own).drop()
        elif len(rivals) >= places:
            _missed_least(rivals).drop()

    def _begins(self, client: Connection) -> None:
        self._make_room(client.owner, answering=True)

    def _present(self) -> list[Connection]:
        return [client for client in list(self._clients.values()) if not client.dropped]

    def _pause(self) -> None:
        """Drop a client to free a descriptor, and take no new one for a moment."""
        present = self._present()
        LOG.warning("no descriptor is left for a new client; there are %s", len(present))
        waiting = [client for client in present if not client.answering] or present
        if waiting:
            _missed_least(waiting).drop()
        self._door.modify(self._socket, 0)
        self._paused_until = time.monotonic() + _PAUSE

    def _look(self) -> None:
        """Drop clients that are late, and take new ones again after a pause."""
        now = time.monotonic()
        if self._paused_until and now >= self._paused_until:
            self._paused_until = 0.0
            self._door.modify(self._socket, select.EPOLLIN)
        if now < self._looked + _TICK:
            return
        self._looked = now
        for client in list(self._clients.values()):
            if now >= client.deadline and client.stalled():
                client.drop()

    def _end(self, threads: list[threading.Thread]) -> None:
        self._socket.close()
        self._turns.end(len(threads))
        os.eventfd_write(self._nudge, 1)
        for thread in threads:
            thread.join(_TICK)
        for client in list(self._clients.values()):
            client.drop()
        if not any(thread.is_alive() for thread in threads):
            for poll, event in ((self._poll, self._nudge), (self._door, self._wake)):
                poll.close()
                os.close(event)


def _eventfd(poll: select.epoll) -> int:
    """Return the descriptor of an event that ``poll`` waits for."""
    event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    poll.register(event, select.EPOLLIN)
    return event


def _descriptors() -> int:
    """Return how many descriptors clients may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(limit, _DESCRIPTORS) - _RESERVED, 20)


def _missed_least(clients: list[Connection]) -> Connection:
    """Return the client to drop: of the address that has most, the slowest or longest waiting.

    What has just begun is not slow.
    """
    old = time.monotonic() - _YOUNG
    slow = [client for client in clients if client.answering and client.since < old]
    crowd = collections.Counter(client.owner for client in clients)
    if slow:
        return min(slow, key=lambda client: (-crowd[client.owner], client.rate))
    return min(clients, key=lambda client: (-crowd[client.owner], client.since))


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; "::" is all of IPv6 and IPv4."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and later; raises ConfigurationError that names the file.

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
            while thread.is_alive() and not _is_told_to_stop(1):
                pass
            if not thread.is_alive():
                raise errors.UploaderError(f"the server ended: {listener.failure!r}")
    finally:
        # Further signals meanwhile mean the same.
        while _is_told_to_stop(0):
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_told_to_stop(seconds: float) -> bool:
    """Wait for a signal that ends the server, for so long at most; return whether one came."""
    told = signal.sigtimedwait(_STOP_SIGNALS, seconds)
    # NOTE: where the process stood still meanwhile (Ctrl-Z and fg, a debugger, SIGSTOP), Python
    # returns a signal that nobody sent, with a number by chance.
    return told is not None and told.si_signo in _STOP_SIGNALS


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
