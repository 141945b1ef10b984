# SPDX-License-Identifier: Apache-2.0
"""Who may pull: logins, challenges, tokens, and who gets to know them."""

from __future__ import annotations

import base64
import contextlib
import gc
import threading
import urllib.parse

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources import tries, trust
from image_uploader_plugins.sources.keychain import Keychain, Login
from image_uploader_plugins.sources.registries import Registries, Registry
from image_uploader_plugins.sources.registry_source import RegistrySource
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.tokens import Tokens
from image_uploader_plugins.sources.trust import Trust
from image_uploader_plugins.testing import images
from tests.support import odd_registry
from tests.support.odd_registry import Asked, Hook, OddRegistry, Reply, challenge, text
from tests.support.sources import IMAGE, LOGIN, Open, passwords, pull, tokens


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)


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
def test_a_token_is_renewed_before_it_ends(registry: OddRegistry, address: str, same: bool) -> None:
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
    clock = [0.0]
    settings = Settings(Keychain({address: LOGIN}, {}), Trust(certificates=(), environment={}))
    with contextlib.closing(Registry(address, settings, Tokens(lambda: clock[0]))) as asked:
        for clock[0], count in ((1000.0, 1), (1080.0, 1), (1091.0, 2), (1170.0, 2), (1300.0, 3)):
            pull(RegistrySource(asked, "ns/app"))
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
    # Python warns of connections that it has to close itself, and a warning is an error.
    gc.collect()


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
