# SPDX-License-Identifier: Apache-2.0
"""Registries as people have them: what goes where, and what is tried again."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources import tries, trust
from image_uploader_plugins.sources.trust import Trust
from tests.support import odd_registry, tls
from tests.support.odd_registry import Asked, OddRegistry, Reply, challenge, text
from tests.support.sources import IMAGE, LOGIN, Open, passwords, pull

MARK = "Zq7sEcReT"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)


# -- what goes where


@pytest.mark.slow
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_where_a_redirect_leads_gets_nothing_of_ours(
    registry: OddRegistry,
    address: str,
    open_source: Open,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    (tmp_path / ".netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    storage = OddRegistry(
        hook=lambda asked: Reply(body=IMAGE.blobs[Digest(asked.path.rpartition("/")[2])])
    )
    with odd_registry.serving(storage) as elsewhere:
        usual = passwords()

        def hook(asked: Asked) -> Reply | None:
            refused = usual(asked)
            if refused or "/blobs/" not in asked.path:
                return refused
            digest = asked.path.rpartition("/")[2]
            return Reply(status, (("Location", f"http://{elsewhere}/b/{digest}?sig=s"),))

        registry.hook = hook
        pull(open_source(address, LOGIN))
    assert storage.seen() == {None}
    assert registry.seen() == {None, LOGIN.basic}


def test_a_redirect_to_the_registry_itself_keeps_the_login(
    registry: OddRegistry, address: str, open_source: Open
) -> None:
    usual = passwords()

    def hook(asked: Asked) -> Reply | None:
        if "/blobs/" in asked.path and "again" not in asked.query:
            return Reply(307, (("Location", f"{asked.path}?again=1"),))
        return usual(asked)

    registry.hook = hook
    pull(open_source(address, LOGIN))


@pytest.mark.parametrize(("length", "goes_on"), [(0, True), (60 * 1024, True), (2**20, False)])
def test_a_connection_goes_on_unless_there_is_too_much_to_read(
    registry: OddRegistry, address: str, open_source: Open, length: int, goes_on: bool
) -> None:
    """After refusals and redirects, whose bodies nobody wants."""

    def hook(asked: Asked) -> Reply | None:
        if asked.authorization is None:
            wanted = challenge('Basic realm="r"')
            return Reply(401, wanted.headers, bytes(length))
        if "/blobs/" in asked.path and not asked.query:
            return Reply(307, (("Location", f"{asked.path}?again=1"),), bytes(length))
        return None

    registry.hook = hook
    source = open_source(address, LOGIN, mirrors={address: f"http://{address}"})
    pull(source)
    pull(source)
    assert (len(registry.connections) == 1) is goes_on


@pytest.mark.slow
@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "no URL of HTTP"),
        ("http://", "more than 5 redirects"),
        ("http://[::1", "leads to what is no URL of HTTP"),
        ("http://x:99999/", "no URL of HTTP|Invalid port"),
        ("/v2/ns/app/manifests/1", "more than 5 redirects"),
    ],
)
def test_redirects_that_lead_nowhere(
    registry: OddRegistry, address: str, open_source: Open, location: str, reason: str
) -> None:
    registry.hook = lambda asked: Reply(307, (("Location", location),))
    with pytest.raises(errors.RegistryUnreachable, match=reason) as caught:
        open_source(address).manifest(Tag("1"))
    assert not caught.value.retryable


# -- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, a server's certificate of its, and another CA."""
    folder = tmp_path_factory.mktemp("authority")
    tls.Authority(folder, "other")
    own = tls.Authority(folder)
    own.sign("server")
    return folder


def certificates(folder: Path, address: str, authority: Path) -> Trust:
    """What certs.d says of a registry."""
    place = folder / "certs.d" / address
    place.mkdir(parents=True)
    (place / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())
    return Trust(certificates=[folder / "certs.d"], environment={})


def pair(authority: Path) -> tuple[Path, Path]:
    return authority / "server.crt", authority / "server.key"


@pytest.mark.slow
def test_a_ca_of_certs_d(
    registry: OddRegistry, open_source: Open, authority: Path, tmp_path: Path
) -> None:
    registry.hook = passwords()
    with odd_registry.serving(registry, pair(authority)) as address:
        with pytest.raises(
            errors.RegistryUnreachable,
            match=r"CERTIFICATE_VERIFY_FAILED.*put its CA into .*insecure_registries",
        ) as caught:
            pull(open_source(address, LOGIN))
        assert not caught.value.retryable
        assert registry.asked == []
        pull(open_source(address, LOGIN, trust=certificates(tmp_path, address, authority)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_bundles_of_the_environment_add_trust(
    registry: OddRegistry, open_source: Open, authority: Path, tmp_path: Path, name: str
) -> None:
    with odd_registry.serving(registry, pair(authority)) as address:
        trusted = Trust(certificates=(), environment={name: str(authority / "ca.crt")})
        pull(open_source(address, trust=trusted))
        # And take none away.
        other = certificates(tmp_path, address, authority)
        other._environment = {name: str(authority / "other.crt")}
        pull(open_source(address, trust=other))


@pytest.mark.slow
def test_an_insecure_registry_is_named(
    registry: OddRegistry,
    open_source: Open,
    authority: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry.hook = passwords()
    with odd_registry.serving(registry, pair(authority)) as address:
        for _ in range(2):
            trust = Trust([address], certificates=(), environment={})
            pull(open_source(address, LOGIN, trust=trust))
    assert [r.getMessage() for r in caplog.records if "insecure" in r.getMessage()] == [
        f"{address} is insecure as configured: its certificate is not verified"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", [bytes.fromhex("15030300020228"), b"", b"HTTP/1.0 400 no\r\n\r\n"]
)
def test_a_handshake_that_fails_leads_to_http_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, open_source: Open, first: bytes
) -> None:
    """Not even on this machine, after an alert: that is what one in the middle would send."""
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = "{}:{}".format(*listening.getsockname())

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        seen.append(connection.recv(65536)[:1])
                        connection.sendall(first)

        thread = threading.Thread(target=answer)
        thread.start()
        if not first.startswith(b"\x15"):
            monkeypatch.setattr(trust, "is_loopback", lambda registry: False)
        with pytest.raises(errors.RegistryUnreachable, match="https://"):
            open_source(address, LOGIN).manifest(Tag("1"))
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert set(seen) <= {b"\x16", b""}


def test_https_does_not_lead_to_http(
    registry: OddRegistry, open_source: Open, authority: Path, tmp_path: Path
) -> None:
    with odd_registry.serving(OddRegistry()) as plain:
        registry.hook = lambda asked: Reply(307, (("Location", f"http://{plain}/x"),))
        with odd_registry.serving(registry, pair(authority)) as address:
            trust = certificates(tmp_path, address, authority)
            with pytest.raises(errors.RegistryUnreachable, match="leads from https to"):
                open_source(address, trust=trust).manifest(Tag("1"))


# -- again, and how often


@pytest.mark.slow
@pytest.mark.parametrize("until_closed", [False, True])
def test_a_blob_that_breaks_off_goes_on(
    registry: OddRegistry, address: str, open_source: Open, until_closed: bool
) -> None:
    content = bytes(range(256)) * 8192
    blob = Descriptor("application/octet-stream", Digest.of(content), len(content))
    sent = 0

    def hook(asked: Asked) -> Reply | None:
        nonlocal sent
        if "/blobs/" not in asked.path:
            return None
        start = int((asked.headers["Range"] or "bytes=0-")[6:-1])
        rest, cut = content[start:], 300_000
        sent += min(cut, len(rest))
        where = ("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        return Reply(206 if start else 200, (where,) if start else (), rest, cut, until_closed)

    registry.hook = hook
    got = b"".join(open_source(address).blob(blob))
    assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()
    assert sent < len(content) * 1.05


@pytest.mark.parametrize("status", [200, 206])
def test_a_registry_without_ranges_begins_again(
    registry: OddRegistry, address: str, open_source: Open, status: int
) -> None:
    content = b"0123456789" * 50_000
    blob = Descriptor("application/octet-stream", Digest.of(content), len(content))
    cuts = iter([200_000, 400_000, None])

    def hook(asked: Asked) -> Reply:
        whole = (("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}"),)
        return Reply(status, whole if status == 206 else (), content, next(cuts))

    registry.hook = hook
    assert b"".join(open_source(address).blob(blob)) == content


@pytest.mark.slow
@pytest.mark.parametrize("told", ["bytes 9-10/99", "bytes */10", "", "items 0-9/10"])
def test_a_part_that_was_not_asked_for(
    registry: OddRegistry, address: str, open_source: Open, told: str
) -> None:
    blob = Descriptor("application/octet-stream", Digest.of(b"0123456789"), 10)
    answers = iter([Reply(200, (), b"0123456789", 4)])
    part = Reply(206, (("Content-Range", told),), b"456789")
    registry.hook = lambda asked: next(answers, part)
    with pytest.raises(errors.RegistryUnreachable, match="part"):
        list(open_source(address).blob(blob))
    assert len(registry.asked) <= 6


def test_tries_are_counted(registry: OddRegistry, address: str, open_source: Open) -> None:
    registry.hook = lambda asked: Reply(502)
    with pytest.raises(errors.RegistryError, match="502 Bad Gateway") as caught:
        open_source(address).manifest(Tag("1"))
    assert caught.value.retryable
    assert len(registry.paths("/manifests/")) == 5


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 451])
def test_an_answer_is_not_asked_for_again(
    registry: OddRegistry, address: str, open_source: Open, status: int
) -> None:
    registry.hook = lambda asked: Reply(status)
    with pytest.raises((errors.RegistryError, errors.ImageUnknown)):
        open_source(address).manifest(Tag("1"))
    assert len(registry.paths("/manifests/")) == 1


def test_a_host_that_is_none_is_one_line(open_source: Open) -> None:
    with pytest.raises(errors.RegistryUnreachable, match=r"no such host: registry\.invalid") as e:
        open_source("registry.invalid").manifest(Tag("1"))
    assert not e.value.retryable


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "", errors.ImageUnknown),
        (403, "MANIFEST_UNKNOWN", errors.ImageUnknown),
        (403, "DENIED", errors.RegistryError),
        (401, "NAME_UNKNOWN", errors.ImageUnknown),
    ],
)
def test_what_a_refusal_means(
    registry: OddRegistry,
    address: str,
    open_source: Open,
    status: int,
    code: str,
    kind: type[Exception],
) -> None:
    said = {"errors": [{"code": code, "message": f"said\n\x1b so: https://x/?s={MARK}"}]}
    registry.hook = lambda asked: text(said, status)
    with pytest.raises(kind) as caught:
        open_source(address).manifest(Tag("1"))
    assert MARK not in str(caught.value)
    if kind is errors.RegistryError:
        assert f"{status} {code}: said \\x1b so: https://x/" in str(caught.value)


def test_what_is_not_there_is_told_without_secrets(
    registry: OddRegistry, address: str, open_source: Open
) -> None:
    """And connections go on, with the user in a URL or without."""

    def hook(asked: Asked) -> Reply | None:
        if "/manifests/" not in asked.path:
            return Reply(404, (), b"no such thing")
        return Reply(307, (("Location", f"http://me:{MARK}@{address}/\x1b?sig={MARK}"),))

    registry.hook = hook
    source = open_source(address, mirrors={address: f"http://{address}"})
    for _ in range(2):
        with pytest.raises(errors.ImageUnknown) as caught:
            source.manifest(Tag("2"))
        assert str(caught.value) == f"not found: http://{address}/\\x1b"
    assert len(registry.connections) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>\r\n<head><TITLE> 400 No certificate </TITLE></head>", "400 No certificate"),
        (b"404 page not found\n\nmore", "404 page not found"),
        (b"<html>no title</html>", "Not Acceptable"),
        (b"\xff\x00x" * 10_000, "\ufffd"),
        (b"x" * 100_000, "Not Acceptable"),
        *((body, "Not Acceptable") for body in (b"", b"{}", b"[]", b'{"errors":[', b'"x"')),
    ],
)
def test_a_refusal_that_is_no_registrys(
    registry: OddRegistry, address: str, open_source: Open, body: bytes, message: str
) -> None:
    registry.hook = lambda asked: Reply(406, (), body)
    with pytest.raises(errors.RegistryError) as caught:
        open_source(address).manifest(Tag("1"))
    assert f": 406 {message}" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_wait_that_was_asked_for_is_no_failure(
    registry: OddRegistry, address: str, open_source: Open
) -> None:
    waits = iter(["0"] * 20)

    def hook(asked: Asked) -> Reply | None:
        wait = next(waits, None)
        return None if wait is None else Reply(429, (("Retry-After", wait),))

    registry.hook = hook
    registry_of = open_source(address, mirrors={address: f"http://{address}"})
    registry_of._registry._pauses._sleep = lambda seconds: None
    registry_of._registry._pauses._clock = iter(range(10**6)).__next__
    pull(registry_of)


@pytest.mark.slow
def test_a_mirror_with_a_path(registry: OddRegistry, address: str, open_source: Open) -> None:
    def hook(asked: Asked) -> Reply | None:
        return None if asked.path.startswith("/v2/") else Reply(404)

    registry.hook = hook
    for slash in ("", "/"):
        pull(open_source("docker.io", mirrors={"docker.io": f"http://{address}{slash}"}))
