# SPDX-License-Identifier: Apache-2.0
"""``image-uploader serve`` as an operator runs it, and what ``--print`` makes of the tree."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import socket
import string
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import commands, programs, raw, tls, trees, web
from tests.support.checkout import PROJECT

TIMEOUT = 30
BLOB = "sha256:" + "0" * 64
SIZE = 256 * 1024 * 1024
IMAGE = images.corpus()[0]
TARGET = f"/v2/{IMAGE.repository}/manifests/{IMAGE.tag}"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with web.open_folder() as folder:
        tls.make(folder)
        yield folder


@pytest.fixture(scope="module")
def root(folder: Path) -> Path:
    root = folder / "tree of \"images\" & 'more'"
    make(root)
    with (root / "v2" / IMAGE.repository.value / "blobs" / BLOB).open("wb") as blob:
        blob.truncate(SIZE)
    return root


def make(root: Path, image: images.Image = IMAGE) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, image)


def secured(folder: Path) -> tuple[object, ...]:
    return ("--tls-certificate", folder / tls.CERTIFICATE, "--tls-key", folder / tls.KEY)


def image_uploader(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return commands.process(commands.configuration(root, root.parent), *arguments)


def skopeo(reference: str, *options: object) -> None:
    command = [programs.require("skopeo"), "copy", *options, f"docker://{reference}"]
    with web.open_folder() as copy:
        subprocess.run(
            [*map(str, command), f"dir:{copy}"], check=True, capture_output=True, timeout=TIMEOUT
        )
        assert (copy / "manifest.json").read_bytes() == IMAGE.manifest.content


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well(root: Path, number: signal.Signals) -> None:
    with web.started(root) as (process, url):
        assert requests.get(url + "/v2/", timeout=TIMEOUT).json() == {}
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 0


@pytest.mark.slow
def test_its_port_is_free_at_once(root: Path) -> None:
    """The port is free for the next start, while clients still have connections open."""
    port = ("--port", web.free_port())
    with contextlib.ExitStack() as clients:
        for _ in range(2):
            with web.started(root, *port) as (process, url):
                client = clients.enter_context(raw.connected(url.removeprefix("http://")))
                client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
                process.terminate()
                assert process.wait(TIMEOUT) == 0


@pytest.mark.slow
def test_what_is_in_flight_is_finished(root: Path) -> None:
    with web.started(root) as (process, url), raw.connected(url.removeprefix("http://")) as client:
        request = f"GET /v2/{IMAGE.repository}/blobs/{BLOB} HTTP/1.1\r\nHost: x\r\n\r\n"
        client.sendall(request.encode())
        begun = client.recv(4096)
        process.terminate()
        # It listens no more, and still serves.
        while not refused(url):
            pass
        received = len(begun) + sum(map(len, iter(lambda: client.recv(2**20), b"")))
        assert received == SIZE + begun.index(b"\r\n\r\n") + 4
        assert process.wait(TIMEOUT) == 0


def refused(url: str) -> bool:
    try:
        requests.get(url + "/v2/", timeout=TIMEOUT)
    except requests.ConnectionError:
        return True
    return False


@pytest.mark.slow
def test_blobs_are_streamed(root: Path) -> None:
    """A blob of 256 MB goes to several clients at once, and takes a few MB of memory."""
    with web.started(root) as (process, url), contextlib.ExitStack() as stack:
        requests.get(url + TARGET, timeout=TIMEOUT)
        before = peak(process.pid)
        target = f"{url}/v2/{IMAGE.repository}/blobs/{BLOB}"
        answers = [
            stack.enter_context(requests.get(target, stream=True, timeout=TIMEOUT))
            for _ in range(4)
        ]
        for answer in answers:
            assert sum(map(len, answer.iter_content(2**20))) == SIZE
        assert peak(process.pid) - before < 32 * 1024


def peak(pid: int) -> int:
    """Return the most memory that a process has had, in kB."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1])


@pytest.mark.slow
def test_a_line_for_each_request(root: Path) -> None:
    with web.started(root, "-v") as (process, url):
        server = url.removeprefix("http://")
        raw.get(server, "/v2/")
        raw.get(server, TARGET, "HEAD", Accept="*/*")
        raw.exchange(server, b'GET /v2/\x1b]0;x\x07"\\ HTTP/1.1\r\nConnection: close\r\n\r\n')
        raw.exchange(server, b"GET /\x9b31m HTTP/1.1\r\n\r\n")
        raw.exchange(server, b"\x1b[31m\r\n\r\n")
        process.terminate()
        assert process.stdout
        lines = process.stdout.read().splitlines()
    common = r'127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "(.*)" (.*)'
    told = [re.fullmatch(common, line) for line in lines]
    assert [match and match.groups() for match in told] == [
        ("GET /v2/ HTTP/1.1", "200 2"),
        (f"HEAD {TARGET} HTTP/1.1", "200 -"),
        (r"GET /v2/\x1b]0;x\x07\x22\x5c HTTP/1.1", "400 96"),
        (r"GET /\x9b31m HTTP/1.1", "400 96"),
        (r"\x1b[31m", "400 96"),
    ]


@pytest.mark.slow
def test_quiet_without_v(root: Path) -> None:
    with web.started(root) as (process, url):
        raw.get(url.removeprefix("http://"), "/v2/")
        process.terminate()
        assert process.stdout
        assert process.stdout.read() == ""


@pytest.mark.slow
def test_tls(root: Path, folder: Path) -> None:
    with web.command(root, *secured(folder)) as url:
        assert url.startswith("https://127.0.0.1:")
        trusted = str(folder / tls.CERTIFICATE)
        assert requests.get(url + "/v2/", verify=trusted, timeout=TIMEOUT).json() == {}
        skopeo(f"{url[8:]}/{IMAGE.repository}:{IMAGE.tag}", "--src-cert-dir", folder)
        # Neither who speaks HTTP nor who says nothing disturbs the others.
        with raw.connected(url[8:]), raw.connected(url[8:]) as plain:
            plain.sendall(b"GET /v2/ HTTP/1.1\r\n\r\n")
            assert requests.get(url + "/v2/", verify=trusted, timeout=TIMEOUT).json() == {}


@pytest.mark.slow
def test_ipv6(root: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with web.command(root, "--host", "::1") as url:
        assert url.startswith("http://[::1]:")
        assert requests.get(url + "/v2/", timeout=TIMEOUT).json() == {}


@pytest.mark.slow
def test_what_cannot_be_served(root: Path, folder: Path, tmp_path: Path) -> None:
    """The command says in one line what cannot be served, with status 1."""
    certificate, key = folder / tls.CERTIFICATE, folder / tls.KEY
    other, _ = tls.make(tmp_path)
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    locked = tmp_path / "locked"
    locked.mkdir()
    tls.make(locked, "-passout", "pass:secret")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, message in (
            (("--port", port), f"cannot listen on 127.0.0.1:{port}: Address already in use"),
            (("--host", "192.0.2.1"), "cannot listen on 192.0.2.1:8787: Cannot assign requested"),
            (("--host", "no.invalid"), "cannot listen on no.invalid:8787: "),
            (("--host", "no..name"), "cannot listen on no..name:8787: "),
            (("--print", "nginx", "--host", "::1%\n}"), "--host is no address: '::1%\\n}'"),
            (("--print", "apache", "--server-name", "a;\nb"), "--server-name is no host name: 'a;"),
            (("--tls-certificate", tmp_path / "x", "--tls-key", key), f"cannot read {tmp_path}/x"),
            (("--tls-certificate", nothing, "--tls-key", key), f"{nothing} holds no certificate"),
            (("--tls-certificate", key, "--tls-key", key), f"{key} holds no certificate in PEM"),
            (("--tls-certificate", certificate, "--tls-key", nothing), f"{nothing} holds no priv"),
            (("--tls-certificate", other, "--tls-key", key), f"{key} is not the key of {other}"),
            (
                ("--tls-certificate", locked / tls.CERTIFICATE, "--tls-key", locked / tls.KEY),
                f"{locked / tls.KEY} is encrypted",
            ),
            (("--allow-origin", "ui.example"), "--allow-origin is neither * nor scheme://host"),
            (
                ("--print", "nginx", "--allow-origin", "https://ui.example/"),
                "--allow-origin is neither * nor scheme://host",
            ),
        ):
            done = image_uploader(root, "serve", *options)
            assert done.returncode == 1
            assert done.stderr.startswith(f"ERROR: {message}"), done.stderr
            assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    for options, message in (
        (("--port", 65536), "argument --port: not a port: '65536'"),
        (("--tls-key", key), "--tls-certificate and --tls-key go together"),
        (("--server-name", "x"), "--server-name is for --print"),
    ):
        done = image_uploader(root, "serve", *options)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(f"error: {message}\n")
    empty = image_uploader(tmp_path / "absent", "serve")
    assert (empty.returncode, empty.stderr.count("\n")) == (1, 1)
    assert f"no registry in {tmp_path}/absent" in empty.stderr
    assert not (tmp_path / "absent").exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root may have any port")
def test_a_port_for_root(root: Path) -> None:
    done = image_uploader(root, "serve", "--port", "80")
    assert done.stderr == "ERROR: cannot listen on 127.0.0.1:80: Permission denied\n"


def printed(kind: str, root: Path, port: int, *options: object) -> str:
    options = ("--print", kind, "--host", "127.0.0.1", "--port", port, *options)
    done = image_uploader(root, "serve", *options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@contextlib.contextmanager
def serving(kind: web.Kind, more: str, *roots: Path, options: tuple[object, ...]) -> Iterator[str]:
    """Serve the printed configurations of several trees, the last one on our port."""
    name = "nginx" if kind == "nginx" else "apache"

    def write(folder: Path, port: int) -> str:
        ports = [*(web.free_port() for _ in roots[1:]), port]
        sites = [printed(name, r, p, *options) for r, p in zip(roots, ports, strict=True)]
        first = "    server_tokens" if kind == "nginx" else "  ServerSignature"
        assert sites[-1].count(first) == 1
        sites[-1] = sites[-1].replace(first, f"{more}\n{first}")
        if kind == "nginx":
            return web.nginx_main(folder, "\n".join(sites))
        site = folder / "site.conf"
        site.write_text("\n".join(sites))
        return web.httpd_main(
            folder, site, ("ssl", "auth_basic", "authn_core", "authn_file", "authz_user")
        )

    with web.running(kind, write) as address:
        yield address


WEB = pytest.mark.parametrize("kind", ["nginx", "httpd"])


# Characters that no path in the server's configuration can have.
REFUSED = {"nginx": "$", "httpd": "\"$%'*?[\\]"}


@pytest.mark.slow
@WEB
@pytest.mark.parametrize("secure", [False, True])
def test_what_is_printed_serves(kind: web.Kind, secure: bool) -> None:
    """What is printed serves beside another tree's, for every path that is not refused."""
    special = "".join(sorted(set(string.punctuation).difference("/", REFUSED[kind])))
    with web.open_folder() as other, web.open_folder() as folder:
        make(other / "tree", images.corpus()[1])
        served, keys = folder / f"tree {special} ä", folder / f"keys {special} ä"
        make(served)
        keys.mkdir()
        certificate, _ = tls.make(keys)
        options = ("--server-name", "registry.example.com", *(secured(keys) if secure else ()))
        with serving(kind, "", other / "tree", served, options=options) as address:
            scheme = "https" if secure else "http"
            for target in (TARGET, f"/v2/{IMAGE.repository}/tags/list?n=1"):
                for method in ("GET", "HEAD"):
                    answer = requests.request(
                        method,
                        f"{scheme}://{address}{target}",
                        verify=str(certificate),
                        timeout=TIMEOUT,
                    )
                    assert answer.status_code == 200
            trust = ("--src-cert-dir", keys) if secure else ("--src-tls-verify=false",)
            skopeo(f"{address}/{IMAGE.repository}:{IMAGE.tag}", *trust)


DOCUMENT = PROJECT / "doc" / "source" / "serving.rst"


def documented(first: str) -> str:
    """Return the literal block of the documentation that begins with this line."""
    lines = iter(DOCUMENT.read_text().splitlines())
    for line in lines:
        if line.strip() == first and line.startswith("    "):
            block = [line, *itertools.takewhile(lambda text: text.startswith("    "), lines)]
            return textwrap.dedent("\n".join(block))
    raise AssertionError(f"no block begins with {first!r}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "first"), [("nginx", "auth_basic registry;"), ("httpd", '<Location "/">')]
)
def test_documented_authentication(kind: web.Kind, first: str, folder: Path) -> None:
    """Without a password nothing is answered, and skopeo pulls with one."""
    passwords = folder / "passwords"
    hashed = subprocess.check_output([programs.require("openssl"), "passwd", "-apr1", "secret"])
    passwords.write_bytes(b"somebody:" + hashed)
    block = documented(first)
    assert block.count("/etc/image-serve.htpasswd") == 1
    block = block.replace("/etc/image-serve.htpasswd", str(passwords))
    root = folder / "private"
    make(root)
    blob = next(iter(IMAGE.blobs))
    with serving(kind, block, root, options=secured(folder)) as address:
        for target in (
            "/v2/",
            "/v2/_catalog",
            TARGET,
            f"/v2/{IMAGE.repository}/tags/list",
            f"/v2/{IMAGE.repository}/tags/list?n=1",
            f"/v2/{IMAGE.repository}/blobs/{blob}",
            f"/v2/{IMAGE.repository}/manifests/{IMAGE.digest}",
            f"/v2/{IMAGE.repository}/referrers/{IMAGE.digest}",
        ):
            url = f"https://{address}{target}"
            trusted = str(folder / tls.CERTIFICATE)
            for password, status in (("", 401), ("wrong", 401), ("secret", 200)):
                auth = ("somebody", password) if password else None
                answer = requests.get(url, auth=auth, verify=trusted, timeout=TIMEOUT)
                assert answer.status_code == status, url
                assert status == 200 or answer.headers["WWW-Authenticate"].startswith("Basic ")
        options = ("--src-creds", "somebody:secret", "--src-cert-dir", folder)
        skopeo(f"{address}/{IMAGE.repository}:{IMAGE.tag}", *options)
        with pytest.raises(subprocess.CalledProcessError):
            skopeo(f"{address}/{IMAGE.repository}:{IMAGE.tag}", "--src-cert-dir", folder)
