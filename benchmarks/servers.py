# SPDX-License-Identifier: Apache-2.0
"""Servers on free ports of 127.0.0.1, each with the memory that it takes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import programs
from benchmarks.measurement import MeasurementError, last_line
from tests.support.registry import free_port

_DEADLINE = 30  # seconds

_REGISTRY = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {folder}/content}}
  delete: {{enabled: true}}
http: {{addr: "{address}"}}
"""

# Debian's /etc/nginx/nginx.conf, without its log of requests.
_NGINX = """\
daemon off;
{user}
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 768; }}
http {{
    sendfile on;
    tcp_nopush on;
    types_hash_max_size 2048;
    default_type application/octet-stream;
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""

_PLAIN = """\
server {{
    listen {address};
    root "{root}";
}}
"""

# Debian's /etc/apache2/apache2.conf with the modules that our site needs, without a log.
_APACHE = """\
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
Mutex file:{folder}
ErrorLog {folder}/error.log
Timeout 300
KeepAlive On
MaxKeepAliveRequests 100
KeepAliveTimeout 5
{modules}
{user}
TypesConfig /etc/mime.types
<Directory />
  Options FollowSymLinks
  AllowOverride None
  Require all denied
</Directory>
Include {site}
"""

_APACHE_PLAIN = """\
Listen {address}
<VirtualHost {address}>
  DocumentRoot "{root}"
  <Directory "{root}">
    Require all granted
  </Directory>
</VirtualHost>
"""
_MODULES = (
    *("mpm_event", "authz_core", "alias", "dir", "headers", "mime", "negotiation"),
    *("rewrite", "setenvif"),
)


class Server:
    """A server that runs: its address, and the memory of its processes."""

    def __init__(self, name: str, address: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.address = address
        self._process = process

    def memory(self) -> int:
        """Return the bytes that all its processes have now, shared pages counted once (PSS)."""
        return sum(map(_proportional, self._family()))

    def _family(self) -> list[int]:
        """Return the process and its descendants."""
        parents = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # The name in parentheses may have spaces.
                after = (folder / "stat").read_text().rpartition(")")[2]
                parents[int(folder.name)] = int(after.split()[1])
        family = [self._process.pid]
        for one in family:
            family += [child for child, parent in parents.items() if parent == one]
        return family


def _proportional(process: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def docker_registry(folder: Path) -> Iterator[Server]:
    """Run a docker-registry with its content in ``folder``."""
    address = _address()
    config = folder / "registry.yml"
    config.write_text(_REGISTRY.format(folder=folder, address=address))
    command = [programs.path("docker-registry") or "docker-registry", "serve", str(config)]
    with _running("docker-registry", address, command, folder, "/v2/") as server:
        yield server


@contextlib.contextmanager
def nginx(folder: Path, root: Path) -> Iterator[Server]:
    """Run nginx with the configuration that ``serve --print nginx`` prints for a tree."""
    address = _address()
    with _nginx("nginx", folder, address, _printed("nginx", root, address), "/v2/") as server:
        yield server


@contextlib.contextmanager
def nginx_plain(folder: Path, root: Path) -> Iterator[Server]:
    """Run nginx with nothing but files in a folder."""
    address = _address()
    site = _PLAIN.format(address=address, root=root)
    with _nginx("nginx, plain file", folder, address, site, "/manifest") as server:
        yield server


@contextlib.contextmanager
def apache(folder: Path, root: Path) -> Iterator[Server]:
    """Run Apache with the configuration that ``serve --print apache`` prints for a tree."""
    address = _address()
    with _apache("Apache", folder, address, _printed("apache", root, address), "/v2/") as server:
        yield server


@contextlib.contextmanager
def apache_plain(folder: Path, root: Path) -> Iterator[Server]:
    """Run Apache with nothing but files in a folder."""
    address = _address()
    site = _APACHE_PLAIN.format(address=address, root=root)
    with _apache("Apache, plain file", folder, address, site, "/manifest") as server:
        yield server


@contextlib.contextmanager
def embedded(folder: Path, root: Path) -> Iterator[Server]:
    """Run ``image-uploader serve`` for a tree."""
    address = _address()
    port = address.rpartition(":")[2]
    command = [programs.OURS, "-q", "serve", "--root", str(root), "--port", port]
    with _running("serve", address, command, folder, "/v2/") as server:
        yield server


def _nginx(
    name: str, folder: Path, address: str, site: str, path: str
) -> contextlib.AbstractContextManager[Server]:
    user = "user www-data;" if os.getuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, user=user, site=site))
    program = programs.path("nginx") or "nginx"
    log = str(folder / "error.log")
    return _running(
        name, address, [program, "-p", str(folder), "-c", str(config), "-e", log], folder, path
    )


def _apache(
    name: str, folder: Path, address: str, site: str, path: str
) -> contextlib.AbstractContextManager[Server]:
    file = folder / "site.conf"
    file.write_text(site)
    modules = "\n".join(
        f"LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so"
        for module in _MODULES
    )
    user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
    config = folder / "apache.conf"
    config.write_text(_APACHE.format(folder=folder, modules=modules, user=user, site=file))
    program = programs.path("apache2") or "apache2"
    return _running(name, address, [program, "-D", "FOREGROUND", "-f", str(config)], folder, path)


def _printed(kind: str, root: Path, address: str) -> str:
    host, _, port = address.rpartition(":")
    words = ["serve", "--print", kind, "--root", str(root), "--host", host, "--port", port]
    return subprocess.run(  # noqa: S603
        [programs.OURS, *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _address() -> str:
    return f"127.0.0.1:{free_port()}"


@contextlib.contextmanager
def _running(
    name: str, address: str, command: Sequence[str], folder: Path, path: str
) -> Iterator[Server]:
    log = folder / f"{name.partition(' ')[0].strip(',')}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603
    try:
        _wait(process, f"http://{address}{path}", log)
        yield Server(name, address, process)
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until a URL can be read; raises MeasurementError if the server ends before."""
    deadline = time.monotonic() + _DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(url, timeout=_DEADLINE).close()  # noqa: S310
            return
        time.sleep(0.05)
    raise MeasurementError(f"{url} is not served: {last_line(log)}")
