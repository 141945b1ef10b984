# SPDX-License-Identifier: Apache-2.0
"""What a token server is asked, what it may answer, and for how long that counts."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_uploader_plugins import errors
from image_uploader_plugins.sources.challenges import Challenge
from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.sources.tokens import Grant, Tokens

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
REALM = "https://auth.example/token"
LOGIN = Login("user", "password")
IDENTITY = Login("user", "password", "I")
ODD_MOMENTS: tuple[Any, ...] = ("soon", "", 5, None, {})

Asked = tuple[str, Mapping[str, str], Mapping[str, str] | None]


class Server:
    """A token server; ``asked`` are the requests, ``statuses`` those of its next answers."""

    def __init__(self, *statuses: int, **answer: Any) -> None:
        self.asked: list[Asked] = []
        self._statuses = list(statuses)
        self._answer = answer

    def __call__(
        self, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        self.asked.append((url, headers, form))
        answer = {"token": f"T{len(self.asked)}", **self._answer}
        return self._statuses.pop(0) if self._statuses else 200, json.dumps(answer).encode()

    @property
    def query(self) -> list[tuple[str, str]]:
        """That of the last request."""
        parts = urllib.parse.urlsplit(self.asked[-1][0])
        return urllib.parse.parse_qsl(parts.query, keep_blank_values=True)


def grant(
    server: Server,
    login: Login | None = LOGIN,
    store: Tokens | None = None,
    *,
    registry: str = "registry.example",
    scope: str = "repository:a:pull",
    refused: str = "",
    **parameters: str,
) -> Grant:
    challenge = Challenge("bearer", {"realm": REALM, **parameters})
    store = store or Tokens(lambda: 0.0)
    return store.grant(registry, challenge, login, scope, server, refused=refused)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        ({}, 60),
        ({"expires_in": 300}, 300),
        ({"expires_in": 0.5}, 0.5),
        *(({"expires_in": value}, 60) for value in (0, -1, True, None, "300", [300], 2**31)),
        *(({"expires_in": value}, 60) for value in (float("nan"), float("inf"))),
        ({"expires_in": 10**9}, 24 * 60 * 60),
        ({"expires_in": 300, "issued_at": "2025-12-31T23:59:00Z"}, 240),
        ({"expires_in": 300, "issued_at": "2026-01-01T00:59:00.123456789+01:00"}, 240.123456),
        ({"expires_in": 300, "issued_at": "2025-12-31T23:59:00"}, 240),
        # A clock that is wrong, or no moment at all.
        ({"expires_in": 300, "issued_at": "2026-01-01T01:00:00Z"}, 300),
        ({"expires_in": 300, "issued_at": "2025-12-31T00:00:00Z"}, 300),
        ({"expires_in": 300, "issued_at": "9999-12-31T23:59:59-23:59"}, 300),
        *(({"expires_in": 300, "issued_at": value}, 300) for value in ODD_MOMENTS),
    ],
)
def test_for_how_long_a_token_is_good(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], seconds: float
) -> None:
    """It is renewed when a tenth of its life is left."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    now = 1000.0
    store = Tokens(lambda: now)
    try:
        found = grant(Server(**answer), store=store)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found.until == pytest.approx(1000 + 0.9 * seconds)
    assert not store.is_over(found)
    now = found.until
    assert store.is_over(found)


def test_a_token_is_for_one_registry_user_and_scope() -> None:
    server, store = Server(expires_in=300), Tokens(lambda: 0.0)
    first = grant(server, store=store)
    assert grant(server, store=store) is first
    others = [
        grant(server, store=store, registry="registry.example:5000"),
        grant(server, Login("another", "password"), store),
        grant(server, None, store),
        grant(server, Login("", "", "I"), store),
        grant(server, Login("", "", "J"), store),
        grant(server, store=store, scope="repository:b:pull"),
        grant(server, store=store, scope="repository:a:pull,push"),
        grant(server, store=store, service="another"),
        grant(server, store=store, realm="https://another.example/token"),
    ]
    assert len({other.authorization for other in [first, *others]}) == len(server.asked) == 10


def test_a_token_that_was_refused_is_not_given_again() -> None:
    server, store = Server(expires_in=300), Tokens(lambda: 0.0)
    first = grant(server, store=store)
    second = grant(server, store=store, refused=first.authorization)
    assert second.authorization == "Bearer T2"
    # Who comes later with the first one gets what is there.
    assert grant(server, store=store, refused=first.authorization) is second


@pytest.mark.parametrize(
    ("realm", "expected"),
    [
        (REALM, []),
        (f"{REALM}?a=b", [("a", "b")]),
        (f"{REALM}?a=b&a=c%26d&e=", [("a", "b"), ("a", "c&d"), ("e", "")]),
        (f"{REALM}?x=%C3%A4+%20#fragment", [("x", "\u00e4  ")]),
    ],
)
def test_realms_with_a_query_of_their_own(realm: str, expected: list[tuple[str, str]]) -> None:
    server = Server()
    grant(server, Login("robot$a+b&c", "p"), realm=realm, service="s & t", scope="a:b c:d")
    more = [("service", "s & t"), ("scope", "a:b"), ("scope", "c:d"), ("account", "robot$a+b&c")]
    assert server.query == expected + more
    assert server.asked[-1][0].startswith(f"{REALM}?")
    assert "#" not in server.asked[-1][0]


def test_an_identity_token_is_posted() -> None:
    server = Server()
    grant(server, IDENTITY, service="s", scope="a:b c:d", realm=f"{REALM}?a=b")
    form = {"grant_type": "refresh_token", "service": "s", "client_id": "image-uploader"}
    form |= {"scope": "a:b c:d", "refresh_token": "I"}
    assert server.asked == [(f"{REALM}?a=b", {}, form)]


@pytest.mark.parametrize("status", [404, 405])
def test_a_token_server_that_takes_no_form(status: int) -> None:
    """It gets the password, where there is one."""
    server = Server(status)
    assert grant(server, IDENTITY).authorization == "Bearer T2"
    assert server.asked[1][1:] == ({"Authorization": IDENTITY.basic}, None)
    with pytest.raises(errors.RegistryError, match=str(status)):
        grant(Server(status), Login("", "", "I"))


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_a_token_server_that_refuses_an_identity_token(status: int) -> None:
    server = Server(status)
    with pytest.raises(errors.RegistryError, match=f"cannot log in at {REALM}: {status}"):
        grant(server, IDENTITY)
    assert len(server.asked) == 1


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("value", ["", " ", "a b", "a\nb", "\u00e4", 5, ["T"], None, {}])
def test_what_is_no_token(value: Any) -> None:
    with pytest.raises(errors.RegistryError, match="answers without a token"):
        grant(Server(token=value, access_token=value))
    only_one = {"token": "", "access_token": "T"}
    assert grant(Server(**only_one)).authorization == "Bearer T"


@pytest.mark.slow
@given(
    st.one_of(
        st.binary(max_size=50),
        JSON.map(json.dumps).map(str.encode),
        st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(("token", "access_token", "expires_in", "issued_at"), JSON),
        )
        .map(json.dumps)
        .map(str.encode),
    ),
    st.sampled_from([200, 204, 302, 400, 401, 500]),
)
def test_whatever_is_answered(body: bytes, status: int) -> None:
    """It is a token that fits into a header, or an error of ours."""
    store = Tokens(lambda: 0.0)
    challenge = Challenge("bearer", {"realm": REALM})
    try:
        found = store.grant("r", challenge, None, "s", lambda *asked: (status, body))
    except errors.RegistryError as e:
        assert "\n" not in str(e)
        return
    assert status == 200
    assert re.fullmatch("Bearer [!-~]+", found.authorization)
    assert 0 < found.until <= 24 * 60 * 60
