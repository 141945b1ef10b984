# SPDX-License-Identifier: Apache-2.0
"""Registries, asked over HTTP, and how fast.

Everything that a registry says is bounded and checked; what it is told goes
nowhere else.  Sources: OCI distribution-spec 1.1, "Pull"; RFC 9110.
"""

from __future__ import annotations

import dataclasses
import functools
import http
import threading
import urllib.parse
from collections.abc import Callable, Mapping

import requests

from image_uploader_plugins import errors
from image_uploader_plugins.sources import answers, network_errors, session
from image_uploader_plugins.sources.authorization import Authorizer, Check
from image_uploader_plugins.sources.image_name import HUB, canonical
from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.sources.pauses import Pauses
from image_uploader_plugins.sources.requester import Requester
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.tokens import Tokens

_HUB_HOST = "registry-1.docker.io"


@dataclasses.dataclass
class Abilities:
    """The requests that a registry was found to answer; None for what is not known yet.

    ``head`` says whether it answers HEAD of a manifest with the manifest's
    digest, and ``referrers`` whether it has the API for referrers.
    """

    head: bool | None = None
    referrers: bool | None = None


class Registry:
    """The registry called ``name``, ``host[:port]``; safe to use from several threads."""

    def __init__(self, name: str, settings: Settings, tokens: Tokens | None = None) -> None:
        self.name = name
        self._settings = settings
        self._pauses = Pauses(name, settings.longest_pause)
        self._requester = Requester(settings)
        self._authorizer = Authorizer(name, settings, tokens or Tokens(), self)
        self._lock = threading.RLock()
        self._base: str | None = None
        self._abilities: dict[str, Abilities] = {}

    def close(self) -> None:
        """Close its connections."""
        self._requester.close()

    @property
    def is_verified(self) -> bool:
        """Return whether what it says came by TLS that was verified, as far as anything came."""
        with self._lock:
            base = urllib.parse.urlsplit(self._base or self._url("https"))
        return base.scheme == "https" and not self._settings.is_insecure(base.netloc)

    def login(self, repository: str) -> Login | None:
        """Return who we are for a repository, None where nobody says."""
        return self._authorizer.login(repository)

    def abilities(self, repository: str) -> Abilities:
        """Return what is known of a repository, always the same for those of one namespace.

        That is the first part of the name: behind it Artifactory, Harbor and
        Nexus have another registry each.
        """
        return self._abilities.setdefault(repository.partition("/")[0], Abilities())

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
        return self._asked("GET", repository, path, headers, check, away=away)

    def head(
        self,
        repository: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        check: Check = lambda: None,
    ) -> Mapping[str, str]:
        """Return the headers of the answer to HEAD of ``path`` below a repository.

        Raises as get() does; a refusal of HEAD has no code and no message.
        """
        response = self._asked("HEAD", repository, path, headers, check)
        session.finish(response)
        return response.headers

    def _asked(
        self,
        method: str,
        repository: str,
        path: str,
        headers: Mapping[str, str] | None,
        check: Check,
        *,
        away: bool = True,
    ) -> requests.Response:
        url, sent = f"{self.base()}/{repository}/{path}", dict(headers or {})
        follow = functools.partial(self._requester.follow, url, sent, away=away, method=method)
        ask = functools.partial(self._authorizer.ask, repository, url, follow, check)
        return answers.granted(self._patiently(ask, check))

    def elsewhere(
        self, url: str, headers: Mapping[str, str], check: Check = lambda: None
    ) -> requests.Response:
        """Return the answer to GET of a URL that a manifest names, given nothing of ours.

        Raises as get() does.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" and not (
            parts.scheme == "http" and self._settings.may_be_plain(parts.netloc)
        ):
            raise errors.RegistryUnreachable(url, "is not asked: it is no https", False)
        ask = functools.partial(self._requester.follow, url, dict(headers), "")
        return answers.granted(self._patiently(ask, check))

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
        check: Check,
    ) -> requests.Response:
        """Return the answer to one request, at the pace that the registry bears; its body unread.

        Raises RegistryUnreachable, RateLimited, and what ``check`` raises.
        """
        ask = functools.partial(self._requester.send, method, url, dict(headers), form)
        return self._patiently(ask, check)

    def _patiently(self, ask: Callable[[], requests.Response], check: Check) -> requests.Response:
        """Ask at a pace that the registry bears; a pause that it asks for is no failure."""
        begun = self._pauses.now()
        while True:
            turn = self._pauses.wait(check)
            response = ask()
            if not _is_pause(response):
                self._pauses.succeeded(response.headers)
                return response
            session.finish(response)
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
            self._settings.may_be_plain(self.name)
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
        response = self._requester.send("GET", f"{self._url(scheme)}/", {})
        session.finish(response)
        if _is_pause(response):
            now = self._pauses.now()
            self._pauses.refused(response.headers, now, now)


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
