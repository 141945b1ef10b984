# SPDX-License-Identifier: Apache-2.0
"""Tokens for registries: fetched once, sent to no other registry, renewed before they expire.

Sources: distribution, "Token Authentication Specification" and "OAuth2 Token
Authentication".
"""

from __future__ import annotations

import dataclasses
import datetime
import http
import math
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from image_uploader_plugins import errors
from image_uploader_plugins.sources import answers
from image_uploader_plugins.sources.challenges import Challenge
from image_uploader_plugins.sources.keychain import Login

_SHORTEST = 60  # seconds that a token is valid if the server does not say (specification)
_LONGEST = 24 * 60 * 60
_MARGIN = 0.1  # a token is renewed when this part of its life is left
_CLIENT = "image-uploader"
_TOKEN = re.compile(r"[!-~]+")  # all that a header may have; RFC 6750, 2.1, allows less
_NO_FORMS = frozenset({404, 405})

Answer = tuple[int, bytes]
Ask = Callable[[str, Mapping[str, str], Mapping[str, str] | None], Answer]
"""A function that takes a URL, headers and a form to POST or None; returns a status and a body."""


class _Key(NamedTuple):
    registry: str
    user: str
    realm: str
    service: str
    scopes: tuple[str, ...]


@dataclasses.dataclass
class Grant:
    """A value for the Authorization header.

    ``until`` is when it expires, by the clock of Tokens; ``has_served`` tells
    whether a registry has accepted it.
    """

    authorization: str = ""
    until: float = math.inf
    has_served: bool = False


class Tokens:
    """The tokens of one run, by registry, user and scope; safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._locks: dict[_Key, threading.Lock] = {}
        self._grants: dict[_Key, Grant] = {}

    def is_over(self, grant: Grant) -> bool:
        """Return whether a grant has expired, or will soon."""
        return grant.until <= self._clock()

    def grant(
        self,
        registry: str,
        challenge: Challenge,
        login: Login | None,
        scope: str,
        ask: Ask,
        *,
        refused: str = "",
    ) -> Grant:
        """Return a token for a challenge; ``scope`` counts if the challenge names none.

        Equal arguments get the same token while it is valid, unless it is the
        Authorization that the registry has ``refused``. Raises RegistryError if
        the token server sends no token.
        """
        parameters = challenge.parameters
        scopes = tuple((parameters.get("scope") or scope).split())
        user = login.username or login.identity_token if login else ""
        key = _Key(
            registry, user, parameters.get("realm", ""), parameters.get("service", ""), scopes
        )
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:  # a second thread gets the token that the first has fetched
            held = self._grants.get(key)
            if held is None or held.authorization == refused or self.is_over(held):
                held = self._grants[key] = self._fetch(key, login, ask)
            return held

    def _fetch(self, key: _Key, login: Login | None, ask: Ask) -> Grant:
        asked = self._clock()
        status, body = _asked(key, login, ask)
        if status != http.HTTPStatus.OK:
            told = urllib.parse.parse_qsl(urllib.parse.urlsplit(key.realm).query)
            secrets = [value for _, value in told] + list(login.secrets if login else ())
            said = answers.said(body, secrets)
            raise errors.RegistryError(key.realm, status, *said, login=True)
        fields = answers.fields(body)
        value = fields.get("token") or fields.get("access_token")
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            raise errors.RegistryError(key.realm, status, "", "answers without a token", login=True)
        return Grant(f"Bearer {value}", asked + _life(fields) * (1 - _MARGIN))


def _asked(key: _Key, login: Login | None, ask: Ask) -> Answer:
    if login and login.identity_token:
        status, body = ask(key.realm, {}, _form(key, login))
        # Token servers without this form answer so (OAuth2 Token Authentication).
        if status not in _NO_FORMS or not login.password:
            return status, body
    return ask(_url(key, login), {"Authorization": login.basic} if login else {}, None)


def _form(key: _Key, login: Login) -> dict[str, str]:
    return {
        "grant_type": "refresh_token",
        "service": key.service,
        "client_id": _CLIENT,
        "scope": " ".join(key.scopes),
        "refresh_token": login.identity_token,
    }


def _url(key: _Key, login: Login | None) -> str:
    parts = urllib.parse.urlsplit(key.realm)
    query = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
    query += [("service", key.service)] if key.service else []
    query += [("scope", scope) for scope in key.scopes]
    query += [("account", login.username)] if login else []
    return parts._replace(query=urllib.parse.urlencode(query), fragment="").geturl()


def _life(fields: Mapping[str, Any]) -> float:
    """Return for how many seconds from now a token is valid."""
    life = fields.get("expires_in")
    if isinstance(life, bool) or not isinstance(life, int | float) or not 0 < life < 2**31:
        return _SHORTEST
    issued = fields.get("issued_at")
    if isinstance(issued, str):
        try:
            moment = datetime.datetime.fromisoformat(issued)
            # A time without a zone is UTC.
            zoned = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
            left = zoned.timestamp() + life - time.time()
        except (ValueError, OverflowError):
            left = life
        # If the server's clock is wrong, only the length of the token's life is used.
        if 0 < left < life:
            life = left
    return float(min(life, _LONGEST))
