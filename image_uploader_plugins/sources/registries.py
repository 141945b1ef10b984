# SPDX-License-Identifier: Apache-2.0
"""Registries, asked over HTTP: who may, and how fast.

Everything that a registry says is bounded and checked; what it is told goes
nowhere else.  Sources: OCI distribution-spec 1.1, "Pull"; RFC 9110.
"""

from __future__ import annotations

import functools
import http
import threading
import urllib.parse
from collections.abc import Callable, Mapping

import requests

from image_uploader_plugins import errors
from image_uploader_plugins.sources import answers, challenges, network_errors
from image_uploader_plugins.sources.challenges import Challenge
from image_uploader_plugins.sources.image_name import HUB, canonical
from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.sources.pauses import Pauses
from image_uploader_plugins.sources.requester import Requester, parts_of
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.tokens import Grant, Tokens
from image_uploader_plugins.text import shown

_HUB_HOST = "registry-1.docker.io"
_RENEWALS = 5
_TOKEN_LIMIT = 1024 * 1024  # bytes of what a token server says
# Statuses for an expired token: RFC 9110, 15.5.2, and those of ECR.
_EXPIRED = frozenset({400, 401, 403})

Check = Callable[[], None]
"""Called while something waits; ends the wait by raising."""


class Registry:
    """The registry called ``name``, ``host[:port]``; safe to use from several threads."""

    def __init__(self, name: str, settings: Settings, tokens: Tokens | None = None) -> None:
        self.name = name
        self._settings = settings
        self._tokens = tokens or Tokens()
        self._pauses = Pauses(name, settings.longest_pause)
        self._requester = Requester(settings)
        self._lock = threading.RLock()
        self._grants: dict[str, Grant] = {}
        self._challenges: dict[str, Challenge] = {}
        self._base: str | None = None

    def close(self) -> None:
        """Close its connections."""
        self._requester.close()

    @property
    def is_verified(self) -> bool:
        """Return whether what it says came by TLS that was verified, as far as anything came."""
        with self._lock:
            base = urllib.parse.urlsplit(self._base or self._url("https"))
        return base.scheme == "https" and not self._settings.trust.is_insecure(base.netloc)

    def login(self, repository: str) -> Login | None:
        """Return who we are for a repository, None where nobody says.

        A mirror has logins of its own: it is not to know those of what it mirrors.
        """
        mirror = urllib.parse.urlsplit(self._settings.mirrors.get(self.name, ""))
        if mirror.netloc:
            return self._settings.keychain.login(mirror.netloc, f"{mirror.path}/{repository}")
        return self._settings.keychain.login(self.name, repository)

    def get(
        self,
        repository: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        check: Check = lambda: None,
        *,
        away: bool = True,
    ) -> requests.Response:
        """Return the answer to GET of ``path`` below a repository, its body unread.

        Its status is 200 or 206.  Raises RegistryError for a refusal, and
        unless ``away`` for a redirect to somebody else, RegistryUnreachable
        where nobody answers, RateLimited, and what ``check`` raises.
        """
        url = f"{self.base()}/{repository}/{path}"
        follow = functools.partial(self._requester.follow, url, dict(headers or {}), away=away)
        ask = functools.partial(self._authorized, repository, url, follow, check)
        return answers.granted(self._patiently(ask, check))

    def elsewhere(
        self, url: str, headers: Mapping[str, str], check: Check = lambda: None
    ) -> requests.Response:
        """Return the answer to GET of a URL that a manifest names, given nothing of ours.

        Raises as get() does.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" and not (
            parts.scheme == "http" and self._settings.trust.may_be_plain(parts.netloc)
        ):
            raise errors.RegistryUnreachable(url, "is not asked: it is no https", False)
        ask = functools.partial(self._requester.follow, url, dict(headers), "")
        return answers.granted(self._patiently(ask, check))

    def _patiently(self, ask: Callable[[], requests.Response], check: Check) -> requests.Response:
        """Ask at a pace that the registry bears; a pause that it asks for is no failure."""
        begun = self._pauses.now()
        while True:
            turn = self._pauses.wait(check)
            response = ask()
            if not _is_pause(response):
                self._pauses.succeeded(response.headers)
                return response
            with response:
                self._pauses.refused(response.headers, turn, begun)

    def base(self) -> str:
        """Return the URL of its API, with /v2; found out once.

        https, unless it may be plain and does not speak TLS.  Raises
        RegistryUnreachable where nobody answers, and RateLimited.
        """
        with self._lock:
            if self._base is None:
                self._base = self._find_base()
            return self._base

    # -- http or https

    def _find_base(self) -> str:
        may_be_plain = self.name not in self._settings.mirrors and (
            self._settings.trust.may_be_plain(self.name)
        )
        return self._url("http" if may_be_plain and self._is_plain() else "https")

    def _url(self, scheme: str) -> str:
        mirror = self._settings.mirrors.get(self.name)
        if mirror:
            return f"{mirror.rstrip('/')}/v2"
        return f"{scheme}://{_HUB_HOST if self.name == HUB else self.name}/v2"

    def _is_plain(self) -> bool:
        """Return whether a port speaks plain HTTP and not TLS; raises RegistryUnreachable."""
        try:
            self._ask_version("https")
        except errors.RegistryUnreachable as e:
            cause = e.__cause__
            if network_errors.speaks_tls(cause):
                return False
            if isinstance(cause, requests.exceptions.Timeout) or not self._answers_in_plain():
                raise
            return True
        return False

    def _answers_in_plain(self) -> bool:
        try:
            self._ask_version("http")
        except errors.RegistryUnreachable as e:
            return isinstance(e.__cause__, ValueError)  # of a redirect: it did answer
        return True

    def _ask_version(self, scheme: str) -> None:
        with self._requester.send("GET", f"{self._url(scheme)}/", {}) as response:
            if _is_pause(response):
                now = self._pauses.now()
                self._pauses.refused(response.headers, now, now)

    # -- logins and tokens

    def _authorized(
        self,
        repository: str,
        url: str,
        follow: Callable[[str], requests.Response],
        check: Check,
    ) -> requests.Response:
        """Ask with what was granted before, and again with what the answer asks for.

        A token that has been good for something and is refused is renewed, as
        often as other threads use up the new one.
        """
        grant, fresh = self._grant(repository, url, check), False
        for _ in range(_RENEWALS):
            response = follow(grant.authorization)
            # "Not found" is an answer to a client that is allowed to ask.
            if response.ok or response.status_code == http.HTTPStatus.NOT_FOUND:
                grant.has_served |= bool(grant.authorization)
                return response
            unknown = response.status_code == http.HTTPStatus.UNAUTHORIZED and not fresh
            if not unknown and not (grant.has_served and response.status_code in _EXPIRED):
                return response
            offered = challenges.parse(response.raw.headers.getlist("WWW-Authenticate"))
            renewed = self._renew(repository, url, offered, grant, check)
            if renewed is None or renewed.authorization == grant.authorization:
                return response
            response.close()
            grant, fresh = renewed, True
        return follow(grant.authorization)

    def _grant(self, repository: str, url: str, check: Check) -> Grant:
        """Return what was granted for a repository, anew where that ends now."""
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
                url, f"no password is sent to {self.name} in the clear: {self._how()}", False
            )
        if chosen.scheme == "basic":
            new = Grant(self._password(login)) if login else old
        else:
            scope = f"repository:{repository}:pull"
            self._check_realm(chosen, login)
            ask = functools.partial(self._ask_for_token, check)
            refused = old.authorization
            new = self._tokens.grant(self.name, chosen, login, scope, ask, refused=refused)
        return self._keep(repository, new)

    def _password(self, login: Login) -> str:
        if login.identity_token and not login.password:
            raise errors.ConfigurationError(
                f"{self.name} wants a password, and what is stored for it is an identity token"
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
        realm = challenge.parameters.get("realm", "")
        parts = parts_of(realm)
        if not parts.netloc or "@" in parts.netloc:
            raise errors.RegistryUnreachable(
                self.base(), f"its token server is no URL: {shown(realm)}", False
            )
        plain = parts.scheme == "http" and not self._settings.trust.is_insecure(parts.netloc)
        if plain and self.base().startswith("https:"):
            raise errors.RegistryUnreachable(
                self.base(), f"its token server is not asked in the clear: {realm}", False
            )
        if login and not self._may_know_secrets(realm):
            raise errors.RegistryUnreachable(
                realm, f"no password is sent there in the clear: {self._how()}", False
            )

    def _may_know_secrets(self, url: str) -> bool:
        """Return whether who is asked is verified, this machine, or named as insecure."""
        parts = urllib.parse.urlsplit(url)
        insecure = self._settings.trust.may_be_plain(parts.netloc) or (
            self._settings.trust.is_insecure(self.name)
            and parts.hostname == urllib.parse.urlsplit(self.base()).hostname
        )
        return parts.scheme == "https" or insecure

    def _how(self) -> str:
        return f"name it in {network_errors.NAMING} if that is meant"

    def _ask_for_token(
        self, check: Check, url: str, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        method = "POST" if form else "GET"
        ask = functools.partial(self._requester.send, method, url, dict(headers), form)
        with self._patiently(ask, check) as response:
            # The registry did not name the redirect's target, so that gets no password.
            body = b"" if response.is_redirect else answers.body(response, _TOKEN_LIMIT)
            return response.status_code, body


class Registries:
    """The registries of one run, each with its pauses, and the tokens of all."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._tokens = Tokens()
        self._lock = threading.Lock()
        self._known: dict[str, Registry] = {}

    def registry(self, name: str) -> Registry:
        """Return the registry called ``host[:port]``, always the same one."""
        name = canonical(name)
        with self._lock:
            if name not in self._known:
                self._known[name] = Registry(name, self.settings, self._tokens)
            return self._known[name]

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for registry in self._known.values():
                registry.close()


def _is_pause(response: requests.Response) -> bool:
    status = response.status_code
    return status == http.HTTPStatus.TOO_MANY_REQUESTS or (
        status == http.HTTPStatus.SERVICE_UNAVAILABLE and "Retry-After" in response.headers
    )


def _chosen(offered: list[Challenge]) -> Challenge | None:
    """Return the challenge to answer: Bearer before Basic; None where neither is offered."""
    for scheme in ("bearer", "basic"):
        for challenge in offered:
            if challenge.scheme == scheme:
                return challenge
    return None
