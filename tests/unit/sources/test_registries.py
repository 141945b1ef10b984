# SPDX-License-Identifier: Apache-2.0
"""Registries as people have them: who may pull, what goes where, and what is tried again."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources import tries, trust
from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.trust import Trust
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import odd_registry, tls
from tests.support.odd_registry import Asked, Hook, OddRegistry, Reply, challenge, text

IMAGE: Image = images.image("ns/app", "1", [images.layer({"a": b"a"}), images.layer({"b": b"b"})])
LAYER = IMAGE.manifest.layers[0]
LOGIN = Login("u", "p\u00e4ss")
MARK = "Zq7sEcReT"

Open = Callable[..., RegistrySource]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)


@pytest.fixture
def registry() -> OddRegistry:
    return OddRegistry([IMAGE])


@pytest.fixture
def address(registry: OddRegistry) -> Iterator[str]:
    with odd_registry.serving(registry) as address:
        yield address


@pytest.fixture
def open_source() -> Iterator[Open]:
    """Make a source of ns/app at an address, with a login and maybe other settings."""
    with contextlib.ExitStack() as stack:

        def open_source(address: str, login: Login | None = None, **settings: Any) -> Any:
            named = {address: login} if login else {}
            chain = Keychain(named, {})
            trust = settings.pop("trust", None) or Trust(certificates=(), environment={})
            made = Registries(Settings(keychain=chain, trust=trust, **settings))
            stack.callback(made.close)
            return RegistrySource(made.registry(address), "ns/app")

        yield open_source


def stopped_at(moment: float) -> Callable[[], float]:
    """A clock."""
    return lambda: moment


def pull(source: RegistrySource) -> None:
    """Read the whole image."""
    found = source.manifest(Tag("1"))
    assert found.content == IMAGE.manifest.content
    for blob in found.blobs():
        for _ in VerifiedStream(source.blob(blob), blob.digest, blob.size):
            pass


def tokens(
    realm: str = "http://{address}/token?given=1",
    answer: Callable[[Asked], Any] | None = None,
    open_ping: bool = False,
    fields: Callable[[str], tuple[str, ...]] | None = None,
    value: str = "T",
) -> Hook:
    """A registry whose token server is at its own address."""

    def hook(asked: Asked) -> Reply | None:
        host = asked.headers["Host"]
        if asked.path == "/token":
            given = answer(asked) if answer else {"token": value}
            return given if isinstance(given, Reply) else text(given)
        if open_ping and asked.path == "/v2/":
            return None
        if asked.authorization == f"Bearer {value}":
            return None
        where = realm.format(address=host)
        return challenge(*(fields(where) if fields else (f'Bearer realm="{where}",service="s"',)))

    return hook


def passwords(expected: str = LOGIN.basic) -> Hook:
    return lambda asked: (
        None if asked.authorization == expected else challenge('Basic realm="r", charset="UTF-8"')
    )


# -- who may pull


def test_nothing_is_asked_for_and_nothing_given(
    registry: OddRegistry, address: str, open_source: Open
) -> None:
    pull(open_source(address, LOGIN))
    assert registry.seen() == {None}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["token", "access_token"])
def test_tokens(registry: OddRegistry, address: str, open_source: Open, name: str) -> None:
    registry.hook = tokens(answer=lambda asked: {name: "T", "expires_in": 300})
    pull(open_source(address, LOGIN))
    (asked,) = [asked for asked in registry.asked if asked.path == "/token"]
    assert asked.authorization == LOGIN.basic
    assert asked.query["scope"] == ["repository:ns/app:pull"]
    assert (asked.query["service"], asked.query["given"]) == (["s"], ["1"])


def test_the_longest_answer_of_a_token_server(
    registry: OddRegistry, address: str, open_source: Open
) -> None:
    token = b'{"token":"T"}'
    registry.hook = tokens(answer=lambda asked: Reply(body=token.ljust(1024 * 1024)))
    pull(open_source(address))


def test_a_scope_that_the_registry_names(
    registry: OddRegistry, address: str, open_source: Open
) -> None:
    registry.hook = tokens(
        fields=lambda realm: (f'Bearer realm="{realm}",scope="repository:x:pull other:y:z"',)
    )
    pull(open_source(address))
    (asked,) = [asked for asked in registry.asked if asked.path == "/token"]
    assert asked.query["scope"] == ["repository:x:pull", "other:y:z"]
    assert asked.authorization is None


def test_bearer_is_chosen_before_basic(
    registry: OddRegistry, address: str, open_source: Open
) -> None:
    registry.hook = tokens(
        fields=lambda realm: ("Negotiate", f'Basic realm="r", Bearer realm="{realm}"')
    )
    pull(open_source(address, LOGIN))
    assert LOGIN.basic not in {a.authorization for a in registry.asked if a.path != "/token"}


def test_basic(registry: OddRegistry, address: str, open_source: Open) -> None:
    registry.hook = passwords()
    pull(open_source(address, LOGIN))


def test_what_the_answer_itself_asks_for(
    registry: OddRegistry, address: str, open_source: Open
) -> None:
    """A registry whose /v2/ is open and whose repositories are not."""
    registry.hook = tokens(open_ping=True)
    pull(open_source(address, LOGIN))


def test_identity_tokens_are_posted(registry: OddRegistry, address: str, open_source: Open) -> None:
    registry.hook = tokens(answer=lambda asked: {"access_token": "T"})
    pull(open_source(address, Login("", identity_token="I")))  # noqa: S106
    (asked,) = [asked for asked in registry.asked if asked.path == "/token"]
    form = urllib.parse.parse_qs(asked.body.decode())
    assert asked.method == "POST"
    assert (form["grant_type"], form["refresh_token"]) == (["refresh_token"], ["I"])
    assert form["scope"] == ["repository:ns/app:pull"]


@pytest.mark.slow
def test_one_token_serves_many_requests_and_threads(
    registry: OddRegistry, address: str, open_source: Open
) -> None:
    registry.hook = tokens(answer=lambda asked: {"token": "T", "expires_in": 3600})
    source = open_source(address, LOGIN)
    threads = [threading.Thread(target=pull, args=[source]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.paths("/token")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("same", [False, True])
def test_a_token_is_renewed_before_it_ends(
    registry: OddRegistry, address: str, open_source: Open, same: bool
) -> None:
    """No request is made with one that has ended, nor is one asked for twice."""
    given: list[str] = []
    refused: list[str] = []

    def hook(asked: Asked) -> Reply | None:
        if asked.path == "/token":
            given.append("T" if same else f"T{len(given)}")
            return text({"token": given[-1], "expires_in": 100})
        if given and asked.authorization == f"Bearer {given[-1]}":
            return None
        refused.append(asked.path)
        return challenge(f'Bearer realm="http://{asked.headers["Host"]}/token"')

    registry.hook = hook
    source = open_source(address, LOGIN)
    for moment, count in ((1000.0, 1), (1080.0, 1), (1091.0, 2), (1170.0, 2), (1300.0, 3)):
        source._registry._authorizer._tokens._clock = stopped_at(moment)
        pull(source)
        assert len(given) == count
    assert refused == ["/v2/", "/v2/ns/app/manifests/1"]


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_token_that_ends_is_renewed(
    registry: OddRegistry, address: str, open_source: Open, status: int
) -> None:
    given: list[str] = []
    uses = 0

    def hook(asked: Asked) -> Reply | None:
        nonlocal uses
        if asked.path == "/token":
            uses = 0
            given.append(f"T{len(given)}")
            return text({"token": given[-1]})
        if asked.authorization is None:
            return challenge(f'Bearer realm="http://{asked.headers["Host"]}/token"')
        uses += 1
        if asked.authorization != f"Bearer {given[-1]}" or uses > 1:
            return text({"errors": [{"code": "DENIED", "message": "has expired"}]}, status)
        return None

    registry.hook = hook
    source = open_source(address, LOGIN)
    pull(source)
    assert len(given) == 4  # a manifest and three blobs
    # Nor does it matter that there is nothing: three tags of cosign's, and referrers.
    assert list(source.signatures(IMAGE.digest)) == []
    assert len(given) == 4 + 5


def test_a_token_that_ended_in_another_repository_is_renewed(
    registry: OddRegistry, address: str
) -> None:
    """As one of ECR Public's, whose scope is not a repository's."""
    registry.add(images.image("ns/other", "1", []))
    given: list[str] = []

    def hook(asked: Asked) -> Reply | None:
        if asked.path == "/token":
            given.append(f"T{len(given)}")
            return text({"token": given[-1]})
        if asked.authorization is None:
            return challenge(f'Bearer realm="http://{asked.headers["Host"]}/token",scope="aws"')
        return None if asked.authorization == f"Bearer {given[-1]}" else Reply(400)

    registry.hook = hook
    shared = Registries(Settings(Keychain({}, {}), Trust(certificates=(), environment={})))
    with contextlib.closing(shared):
        pull(RegistrySource(shared.registry(address), "ns/app"))
        assert given == ["T0"]
        given.append("another")
        RegistrySource(shared.registry(address), "ns/other").manifest(Tag("1"))
    assert len(given) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("login", "hook", "reason"),
    [
        (None, passwords(), "401.*credentials are missing or wrong"),
        (LOGIN, passwords("Basic x"), "401.*credentials are missing or wrong"),
        (LOGIN, tokens(answer=lambda asked: Reply(401)), "cannot log in at .*/token: 401"),
        (LOGIN, tokens(answer=lambda asked: {}), "answers without a token"),
        (LOGIN, tokens(answer=lambda asked: {"token": "a\nb"}), "answers without a token"),
        (LOGIN, tokens(answer=lambda asked: Reply(body=b" " * 2**21)), "answers with more than"),
        (LOGIN, lambda asked: challenge("Negotiate"), "401"),
        (LOGIN, tokens(realm="ftp://x/token"), "token server is no URL"),
        (LOGIN, tokens(realm="http://me:pw@x/token"), "token server is no URL"),
        (LOGIN, tokens(realm="http://[::1/token"), "token server is no URL"),
        (LOGIN, tokens(realm="http://x:99999/token"), "token server is no URL"),
        (LOGIN, tokens(realm="/token"), "token server is no URL"),
        (LOGIN, tokens(value="other", answer=lambda asked: {"token": "T"}), "401"),
    ],
)
def test_who_may_not(
    registry: OddRegistry,
    address: str,
    open_source: Open,
    login: Login | None,
    hook: Hook,
    reason: str,
) -> None:
    registry.hook = hook
    with pytest.raises((errors.RegistryError, errors.RegistryUnreachable), match=reason) as caught:
        pull(open_source(address, login))
    assert not caught.value.retryable
    assert len(registry.asked) < 6
    assert "p\u00e4ss" not in str(caught.value)


# -- what goes where


@pytest.mark.slow
def test_no_registry_sees_what_is_another_ones(open_source: Open) -> None:
    first, second = OddRegistry([IMAGE], tokens(value="A")), OddRegistry([IMAGE], tokens(value="B"))
    with odd_registry.serving(first) as one, odd_registry.serving(second) as other:
        shared = Registries(
            Settings(
                Keychain({one: Login("u1", "p1"), other: Login("u2", "p2")}, {}),
                Trust(certificates=(), environment={}),
            )
        )
        with contextlib.closing(shared):
            for name in (one, other):
                pull(RegistrySource(shared.registry(name), "ns/app"))
    assert first.seen() == {None, "Bearer A", Login("u1", "p1").basic}
    assert second.seen() == {None, "Bearer B", Login("u2", "p2").basic}


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "no URL of HTTP"),
        ("http://", "more than 5 redirects"),
        ("http://[::1", "Invalid IPv6 URL"),
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


def test_no_password_goes_in_the_clear(
    monkeypatch: pytest.MonkeyPatch, registry: OddRegistry, address: str, open_source: Open
) -> None:
    """Neither to a registry whose mirror is asked by http, nor to a token server."""
    monkeypatch.setattr(trust, "is_loopback", lambda registry: False)
    for hook in (passwords(), tokens()):
        registry.hook = hook
        source = open_source(address, LOGIN, mirrors={address: f"http://{address}"})
        with pytest.raises(errors.RegistryUnreachable, match=r"no password is sent.*insecure_reg"):
            source.manifest(Tag("1"))
    assert registry.seen() == {None}


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


def test_the_login_of_a_user_is_encoded_as_it_should_be(
    registry: OddRegistry, address: str, open_source: Open
) -> None:
    expected = "Basic " + base64.b64encode("u:p\u00e4ss".encode()).decode()
    registry.hook = passwords(expected)
    pull(open_source(address, LOGIN))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "named"), [("", "{address}"), ("/hub", "{address}/hub"), ("", ""), ("/hub", "")]
)
def test_a_mirror_gets_its_own_login_and_no_other(
    registry: OddRegistry, address: str, path: str, named: str
) -> None:
    own = Login("mirror", "own")
    usual = passwords(own.basic)

    def hook(asked: Asked) -> Reply | None:
        if path and asked.path.startswith(path):
            return Reply(307, (("Location", asked.path.removeprefix(path)),))
        return usual(asked)

    registry.hook = hook
    chain = Keychain(
        {"docker.io": LOGIN} | ({named.format(address=address): own} if named else {}), {}
    )
    mirrors = {"docker.io": f"http://{address}{path}"}
    made = Registries(Settings(chain, Trust(certificates=(), environment={}), mirrors=mirrors))
    with contextlib.closing(made):
        source = RegistrySource(made.registry("docker.io"), "ns/app")
        with contextlib.nullcontext() if named else pytest.raises(errors.RegistryError):
            pull(source)
    assert registry.seen() == ({None, own.basic} if named else {None})
