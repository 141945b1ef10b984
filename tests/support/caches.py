# SPDX-License-Identifier: Apache-2.0
"""Real caches in front of a web server, and what is asked of the server behind them."""

from __future__ import annotations

import contextlib
import http.client
import os
import pwd
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from image_uploader_plugins.testing.web_server import Server, running
from tests.support import programs, web

_DEADLINE = 30  # seconds
_ATTEMPTS = 5
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade"}

_SQUID = """\
http_port 127.0.0.1:{port} accel no-vhost defaultsite={origin}
cache_peer 127.0.0.1 parent {origin_port} 0 no-query no-digest no-netdb-exchange originserver
http_access allow all
cache_mem 64 MB
maximum_object_size_in_memory 8 MB
memory_cache_shared off
pid_filename {folder}/pid
coredump_dir {folder}
cache_log {folder}/log
access_log none
pinger_enable off
icp_port 0
visible_hostname cache.example
shutdown_lifetime 0 seconds
{user}
"""

_FORWARD = """\
http_port 127.0.0.1:{port}
hosts_file {folder}/hosts
auth_param basic program {folder}/helper
auth_param basic children 1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
pid_filename {folder}/pid
coredump_dir {folder}
cache_log {folder}/log
access_log none
pinger_enable off
visible_hostname proxy.example
shutdown_lifetime 0 seconds
{user}
"""

_NGINX = """\
    proxy_cache_path {folder}/cache keys_zone=tests:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://{origin};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache tests;
            proxy_cache_revalidate on;
        }}
    }}
"""


class Origin:
    """A relay to ``host:port``, with the lines of all requests that were made.

    What the server behind it sees is what the cache in front of it sent.
    """

    def __init__(self, server: str) -> None:
        self.server = server
        self.requests: list[str] = []

    def asked(self, path: str) -> int:
        """How often ``path`` was asked for, by whatever method."""
        return sum(line.split()[1] == path for line in self.requests)

    @contextlib.contextmanager
    def listening(self) -> Iterator[str]:
        """Yields ``host:port``."""

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(handler) -> None:
                self._relay(handler)

            do_HEAD = do_GET

            def log_message(handler, *_: object) -> None:
                pass

        with running(Server(("127.0.0.1", 0), Handler)) as address:
            yield address

    def _relay(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(handler.requestline)
        connection = http.client.HTTPConnection(self.server, timeout=_DEADLINE)
        connection.putrequest(
            handler.command, handler.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in handler.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        handler.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {*_HOP_BY_HOP, "content-length"}:
                handler.send_header(name, value)
        length = answer.headers["Content-Length"] if handler.command == "HEAD" else len(body)
        if answer.status != 304:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        handler.wfile.write(body)
        connection.close()


@contextlib.contextmanager
def squid(origin: str) -> Iterator[str]:
    """Squid as a reverse proxy that caches; yields ``host:port``."""
    program = programs.require("squid")

    def command(folder: Path, port: int) -> list[str]:
        # NOTE: as root it becomes this user, whose folder it has to be.
        user = "cache_effective_user proxy" if os.getuid() == 0 else ""
        if user:
            os.chown(folder, _user("proxy"), -1)
        config = folder / "squid.conf"
        config.write_text(
            _SQUID.format(
                port=port,
                origin=origin,
                origin_port=origin.rpartition(":")[2],
                folder=folder,
                user=user,
            )
        )
        return [program, "-N", "-f", str(config)]

    with _running(command) as address:
        yield address


@contextlib.contextmanager
def forward_squid(hosts: Iterable[str], user: str, password: str) -> Iterator[str]:
    """Squid as a proxy for those who log in, to whom ``hosts`` are here; yields ``host:port``."""
    program = programs.require("squid")

    def command(folder: Path, port: int) -> list[str]:
        as_user = "cache_effective_user proxy" if os.getuid() == 0 else ""
        if as_user:
            os.chown(folder, _user("proxy"), -1)
        (folder / "hosts").write_text("".join(f"127.0.0.1 {host}\n" for host in hosts))
        helper = folder / "helper"
        helper.write_text(
            "#!/bin/sh\nwhile read user password; do\n"
            f'[ "$user $password" = "{user} {password}" ] && echo OK || echo ERR; done\n'
        )
        helper.chmod(0o755)
        config = folder / "squid.conf"
        config.write_text(_FORWARD.format(port=port, folder=folder, user=as_user))
        return [program, "-N", "-f", str(config)]

    with _running(command) as address:
        yield address


@contextlib.contextmanager
def varnish(origin: str) -> Iterator[str]:
    """Varnish with the rules that it comes with; yields ``host:port``."""
    program = programs.require("varnishd", "varnish")

    def command(folder: Path, port: int) -> list[str]:
        arguments = ["-F", "-n", folder / "state", "-j", "none", "-T", "none", "-s", "malloc,64m"]
        arguments += ["-a", f"127.0.0.1:{port}", "-b", origin, "-p", "thread_pool_min=10"]
        return [program, *map(str, arguments)]

    with _running(command) as address:
        yield address


@contextlib.contextmanager
def nginx(origin: str) -> Iterator[str]:
    """nginx with ``proxy_cache``; yields ``host:port``."""

    def main(folder: Path, port: int) -> str:
        return web.nginx_main(folder, _NGINX.format(folder=folder, port=port, origin=origin))

    with web.running("nginx", main) as address:
        yield address


CACHES = {"squid": squid, "varnish": varnish, "nginx": nginx}


@contextlib.contextmanager
def _running(command: Callable[[Path, int], list[str]]) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="cache-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        for _ in range(_ATTEMPTS):
            port = web.free_port()
            with (folder / "output").open("wb") as output:
                process = subprocess.Popen(command(folder, port), stdout=output, stderr=output)
            stack.callback(_stop, process)
            if _listens(process, port):
                yield f"127.0.0.1:{port}"
                return
        raise RuntimeError(f"no cache starts: {(folder / 'output').read_text()}")


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether somebody listens while the process lives; it ends where it cannot have the port."""
    deadline = time.monotonic() + _DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        time.sleep(0.02)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()


def _user(name: str) -> int:

    return pwd.getpwnam(name).pw_uid
