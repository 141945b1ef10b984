# SPDX-License-Identifier: Apache-2.0
"""Real web servers that serve a tree: each on a port of its own, gone when the test is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from tests.support import commands, programs
from tests.support.checkout import PROJECT
from tests.support.registry import free_port as free_port

Kind = Literal["nginx", "httpd", "production", "embedded"]
KINDS: tuple[Kind, ...] = ("nginx", "httpd", "production", "embedded")

ETC = PROJECT / "etc"
VIRTUAL_HOSTS: dict[Kind, Path] = {
    "httpd": ETC / "httpd" / "image-serve.conf",
    "production": Path(__file__).with_name("tripleo-vhost.conf"),
}
_DEADLINE = 30  # seconds
_ATTEMPTS = 5

_MODULES = (
    *("mpm_event", "authz_core", "alias", "dir", "headers", "mime", "negotiation"),
    *("rewrite", "setenvif"),
)

_NGINX = """\
daemon off;
{user}
worker_processes 2;
pid {folder}/pid;
error_log {folder}/log warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {server}
}}
"""

_HTTPD = r"""
ServerRoot {folder}
ServerName localhost
PidFile {folder}/pid
Mutex file:{folder}
ErrorLog {folder}/log
LogLevel warn
{modules}
{user}
# What Debian has in mods-enabled/mime.conf.
TypesConfig /etc/mime.types
AddType application/x-compress .Z
AddType application/x-gzip .gz .tgz
# What Debian and RHEL have in their main file.
<Directory />
  Require all denied
</Directory>
<FilesMatch "^\.ht">
  Require all denied
</FilesMatch>
{define}
Include {site}
"""


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that a server's user may enter; pytest closes its own to all others."""
    with tempfile.TemporaryDirectory(prefix="served-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextlib.contextmanager
def serve(kind: Kind, root: Path, before: Sequence[str] = ()) -> Iterator[str]:
    """Serve the tree at ``root``; yields ``host:port``.

    ``before`` are words in front of the server's command.  As root the workers
    run as www-data, as they do in a deployment: what they cannot read they do
    not serve.
    """
    if kind == "embedded":
        with started(root, before=before) as (_, url):
            yield url.removeprefix("http://")
        return
    write = _nginx if kind == "nginx" else _httpd
    with running(kind, lambda folder, port: write(kind, root, folder, port), before) as address:
        yield address


@contextlib.contextmanager
def running(
    kind: Kind, write: Callable[[Path, int], str], before: Sequence[str] = ()
) -> Iterator[str]:
    """nginx or Apache with the main file that ``write`` makes; yields ``host:port``.

    It gets a folder to put what it needs into, and the port.
    """
    with tempfile.TemporaryDirectory(prefix="web-") as folder_name, contextlib.ExitStack() as stack:
        folder = Path(folder_name)
        folder.chmod(0o755)
        for attempt in range(_ATTEMPTS):
            port = free_port()
            process = _start(kind, write(folder, port), folder, before)
            stack.callback(_stop, process)
            if _listens(process, folder / "pid"):
                break
            if attempt == _ATTEMPTS - 1:
                log = folder / "log"
                reason = log.read_text() if log.exists() else ""
                raise RuntimeError(f"{kind} does not start: {reason}")
        yield f"127.0.0.1:{port}"


def nginx_main(folder: Path, site: str) -> str:
    """nginx's main file with ``site`` in it."""
    user = "user www-data;" if os.getuid() == 0 else ""
    return _NGINX.format(folder=folder, user=user, server=site)


def httpd_main(folder: Path, site: Path, more: Iterable[str] = (), define: str = "") -> str:
    """Apache's main file with ``more`` modules than ours need, including ``site``."""
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
        for name in (*_MODULES, *more)
    )
    user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
    return _HTTPD.format(folder=folder, modules=modules, user=user, define=define, site=site)


@contextlib.contextmanager
def command(root: Path, *options: object) -> Iterator[str]:
    """``image-uploader serve`` as it is installed; yields the URL that it tells."""
    with started(root, *options) as (_, url):
        yield url


@contextlib.contextmanager
def started(
    root: Path, *options: object, before: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of ``image-uploader serve``, and its URL."""
    with tempfile.TemporaryDirectory(prefix="serve-") as folder:
        config = commands.configuration(root, Path(folder))
        words = [*before, *commands.line(config, "serve", "--port", 0, *options)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        try:
            line = process.stdout.readline()
            assert line.startswith(f"serving {root} on "), line
            yield process, line.split()[-1]
        finally:
            process.terminate()
            process.communicate()


def _start(kind: Kind, main: str, folder: Path, before: Sequence[str]) -> subprocess.Popen[bytes]:
    config = folder / "server.conf"
    config.write_text(main)
    if kind == "nginx":
        program = programs.require("nginx", "nginx-light")
        command = [program, "-p", str(folder), "-c", str(config), "-e", str(folder / "log")]
    else:
        program = programs.require("apache2")
        command = [program, "-D", "FOREGROUND", "-f", str(config)]
    return subprocess.Popen([*before, *command], start_new_session=True)


def _nginx(kind: Kind, root: Path, folder: Path, port: int) -> str:
    site = (ETC / "nginx" / "image-serve.conf").read_text()
    for old, new in (
        ("listen 8787;", f"listen 127.0.0.1:{port};"),
        ("$image_serve_root /var/lib/image-serve;", f'$image_serve_root "{root}";'),
    ):
        assert site.count(old) == 1, f"{old!r} is no longer the one line to change"
        site = site.replace(old, new)
    return nginx_main(folder, site)


def _httpd(kind: Kind, root: Path, folder: Path, port: int) -> str:
    define = f"Define IMAGE_SERVE_ROOT {root}\nDefine IMAGE_SERVE_PORT {port}"
    return httpd_main(folder, VIRTUAL_HOSTS[kind], define=define)


def _listens(process: subprocess.Popen[bytes], pid_file: Path) -> bool:
    """Whether this process has the port: whoever answers there may be another.

    Both servers write the file once they listen.
    """
    deadline = time.monotonic() + _DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if pid_file.read_text().strip() == str(process.pid):
                return True
        time.sleep(0.02)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
