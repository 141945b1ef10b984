# SPDX-License-Identifier: Apache-2.0
"""Authorizations: what requests to a registry say about who asks, learnt from its challenges.

Sources: RFC 9110, 11 and 15.5.2; distribution, "Token Authentication Specification".
"""

from __future__ import annotations

import contextlib
import functools
import http
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Protocol

from image_uploader_plugins import errors
from image_uploader_plugins.sources import answers, challenges, network_errors
from image_uploader_plugins.sources.challenges import Challenge
from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.sources.requester import parts_of
from image_uploader_plugins.sources.session import NOT_FOUND, Answer
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.tokens import Grant, Tokens
from image_uploader_plugins.text import shown

_RENEWALS = 5
_TOKEN_LIMIT = 1024 * 1024  # bytes of what a token server says
# Statuses for an expired token: RFC 9110, 15.5.2, and those of ECR.
_EXPIRED = frozenset({400, 401, 403})

Check = Callable[[], None]
"""Called while something waits; ends the wait by raising."""


class Connection(Protocol):
    """A way to a registry and its token server."""

    def base(self) -> str:
        """Return the URL of the registry's API, with /v2."""

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
        check: Check,
    ) -> Answer:
        """Return the answer to one request, at the pace that the registry bears."""


class Authorizer:
    """Decides the Authorization of each request to the registry called ``name``.

    It keeps what was granted, by repository, and renews it. Safe to use from
    several threads.
    """

    def __init__(
        self, name: str, settings: Settings, tokens: Tokens, connection: Connection
    ) -> None:
        self._name = name
        self._settings = settings
        self._tokens = tokens
        self._connection = connection
        self._lock = threading.Lock()
        self._grants: dict[str, Grant] = {}
        self._challenges: dict[str, Challenge] = {}

    def login(self, repository: str) -> Login | None:
        """Return who we are for a repository, None where nobody says.

        A mirror has logins of its own: it is not to know those of what it mirrors.
        """
        mirror = urllib.parse.urlsplit(self._settings.mirrors.get(self._name, ""))
        if mirror.netloc:
            return self._settings.login(mirror.netloc, f"{mirror.path}/{repository}")
        return self._settings.login(self._name, repository)

    def ask(
        self,
        repository: str,
        url: str,
        follow: Callable[[str], Answer],
        check: Check,
    ) -> Answer:
        """Ask with what was granted before, and again with what the answer asks for.

        ``follow`` makes the request for ``url`` with an Authorization. A token
        that has been good for something and is refused is renewed, as often as
        other threads use up the new one. Raises RegistryError where a token
        server gives none, RegistryUnreachable where secrets would go to
        somebody else or in the clear, and what ``follow`` and ``check`` raise.
        """
        grant, fresh = self._grant(repository, url, check), False
        for _ in range(_RENEWALS):
            response = follow(grant.authorization)
            # "Not found" is an answer to a client that is allowed to ask.
            if response.ok or response.status_code == NOT_FOUND:
                grant.has_served |= bool(grant.authorization)
                return response
            unknown = response.status_code == http.HTTPStatus.UNAUTHORIZED and not fresh
            if not unknown and not (grant.has_served and response.status_code in _EXPIRED):
                return response
            with contextlib.ExitStack() as unread:
                unread.enter_context(response)
                offered = challenges.parse(response.raw.headers.getlist("WWW-Authenticate"))
                renewed = self._renew(repository, url, offered, grant, check)
                unread.pop_all()
            if renewed is None or renewed.authorization == grant.authorization:
                return response
            response.finish()
            grant, fresh = renewed, True
        return follow(grant.authorization)

    def _grant(self, repository: str, url: str, check: Check) -> Grant:
        """Return what was granted for a repository, anew where that ends now."""
        grant = self._grants.get(repository)
        if grant is None:
            with self._lock:
                grant = self._grants.setdefault(repository, Grant())
        if not self._tokens.is_over(grant):
            return grant
        return self._renew(repository, url, [], grant, check) or grant

    def _renew(
        self,
        repository: str,
        url: str,
        offered: list[Challenge],
        old: Grant,
        check: Check,
    ) -> Grant | None:
        """Return a grant for a repository that is new, if one can be had; None where none can."""
        with self._lock:
            # A registry that refuses a token with 400 does not repeat its challenge.
            chosen = _chosen(offered) or self._challenges.get(repository)
            if chosen is None:
                return None
            self._challenges[repository] = chosen
        login = self.login(repository)
        if login and not self._may_know_secrets(url):
            raise errors.RegistryUnreachable(
                url, f"no password is sent to {self._name} in the clear: {_how()}", False
            )
        if chosen.scheme == "basic":
            new = Grant(self._password(login)) if login else old
        else:
            scope = f"repository:{repository}:pull"
            self._check_realm(chosen, login)
            ask = functools.partial(self._ask_for_token, check)
            refused = old.authorization
            new = self._tokens.grant(self._name, chosen, login, scope, ask, refused=refused)
        return self._keep(repository, new)

    def _password(self, login: Login) -> str:
        if login.identity_token and not login.password:
            raise errors.ConfigurationError(
                f"{self._name} wants a password, and what is stored for it is an identity token"
            )
        return login.basic

    def _keep(self, repository: str, grant: Grant) -> Grant:
        """Return the grant, or the same one that another thread has got meanwhile."""
        with self._lock:
            held = self._grants.get(repository)
            if held and held.authorization == grant.authorization and held.until >= grant.until:
                return held
            self._grants[repository] = grant
            return grant

    def _check_realm(self, challenge: Challenge, login: Login | None) -> None:
        realm, base = challenge.parameters.get("realm", ""), self._connection.base()
        parts = parts_of(realm)
        if not parts.netloc or "@" in parts.netloc:
            raise errors.RegistryUnreachable(
                base, f"its token server is no URL: {shown(realm)}", False
            )
        plain = parts.scheme == "http" and not self._settings.is_insecure(parts.netloc)
        if plain and base.startswith("https:"):
            raise errors.RegistryUnreachable(
                base, f"its token server is not asked in the clear: {realm}", False
            )
        if login and not self._may_know_secrets(realm):
            raise errors.RegistryUnreachable(
                realm, f"no password is sent there in the clear: {_how()}", False
            )

    def _may_know_secrets(self, url: str) -> bool:
        """Return whether who is asked is verified, this machine, or named as insecure."""
        parts = urllib.parse.urlsplit(url)
        insecure = self._settings.may_be_plain(parts.netloc) or (
            self._settings.is_insecure(self._name)
            and parts.hostname == urllib.parse.urlsplit(self._connection.base()).hostname
        )
        return parts.scheme == "https" or insecure

    def _ask_for_token(
        self, check: Check, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        method = "POST" if form else "GET"
        with self._connection.send(method, url, headers, form, check) as response:
            # The registry did not name the redirect's target, so that gets no password.
            body = b"" if response.is_redirect else answers.body(response, _TOKEN_LIMIT)
            return response.status_code, body


def _how() -> str:
    return f"name it in {network_errors.NAMING} if that is meant"


def _chosen(offered: list[Challenge]) -> Challenge | None:
    """Return the challenge to answer: Bearer before Basic; None where neither is offered."""
    for scheme in ("bearer", "basic"):
        for challenge in offered:
            if challenge.scheme == scheme:
                return challenge
    return None
