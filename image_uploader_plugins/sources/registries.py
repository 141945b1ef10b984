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
from collections.abc import Callable, Iterator, Mapping

import urllib3

from image_uploader_plugins import errors
from image_uploader_plugins.sources import answers, network_errors
from image_uploader_plugins.sources.authorization import Authorizer, Check
from image_uploader_plugins.sources.image_name import HUB, canonical
from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.sources.pauses import Pauses
from image_uploader_plugins.sources.requester import Requester
from image_uploader_plugins.sources.session import NOT_FOUND, Answer
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.sources.tokens import Tokens

_HUB_HOST = "registry-1.docker.io"
_TOO_MANY, _UNAVAILABLE = http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.SERVICE_UNAVAILABLE

_TakeTurn = Callable[[], None]
_Ask = Callable[[_TakeTurn], Answer]


@dataclasses.dataclass
class Abilities:
    """The requests that a registry was found to answer; None for what is not known yet.

    ``head`` says whether it answers HEAD of a manifest with the manifest's
    digest, and ``referrers`` whether it has the API for referrers.
    """

    head: bool | None = None
    referrers: bool | None = None


class _Patience:
    """The patience for one request, which is made again after each pause."""

    def __init__(self, pauses: Pauses, check: Check) -> None:
        self._pauses = pauses
        self._check = check
        self._begun = self._turn = pauses.now()

    def take_turn(self) -> None:
        """Wait for the next turn; raises what ``check`` raises."""
        self._turn = self._pauses.wait(self._check, self._excuse)

    def _excuse(self, seconds: float) -> None:
        self._begun += seconds

    def refused(self, headers: Mapping[str, str]) -> None:
        """Take in that it was refused for now; raises RateLimited."""
        self._pauses.refused(headers, self._turn, self._begun)


class Registry:
    """The registry called ``name``, ``host[:port]``; safe to use from several threads.

    ``is_throttled`` says whether the operator limits how fast its blobs come.
    """

    def __init__(self, name: str, settings: Settings, tokens: Tokens | None = None) -> None:
        self.name = name
        self._settings = settings
        self._pauses = Pauses(name, settings.longest_pause, rules=settings.rules_for(name))
        self._requester = Requester(settings)
        self._authorizer = Authorizer(name, settings, tokens or Tokens(), self)
        self._lock = threading.RLock()
        self._base: str | None = None
        self._abilities: dict[str, Abilities] = {}
        self.is_throttled = bool(settings.rules_for(name).bytes_per_second)

    def close(self) -> None:
        """Close its connections."""
        self._requester.close()

    @property
    def is_away(self) -> bool:
        """Return whether it did not answer just now, and need not be asked for a while."""
        return self._pauses.is_away()

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
        missing: bool = False,
    ) -> Answer:
        """Return the answer to GET of ``path`` below a repository, its body unread.

        Its status is 200 or 206, or with ``missing`` 404 where there is no
        such thing.  Raises RegistryError for a refusal, and unless ``away`` for
        a redirect to somebody else, RegistryUnreachable where nobody answers,
        RateLimited, and what ``check`` raises.
        """
        return self._asked("GET", repository, path, headers, check, away=away, missing=missing)

    def head(
        self,
        repository: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        check: Check = lambda: None,
    ) -> Mapping[str, str] | None:
        """Return the headers of the answer to HEAD of ``path`` below a repository.

        None where there is no such thing (404).  Raises as get() does; a
        refusal of HEAD has no code and no message.
        """
        response = self._asked("HEAD", repository, path, headers, check, missing=True)
        response.finish()
        return response.headers if response.ok else None

    def _asked(
        self,
        method: str,
        repository: str,
        path: str,
        headers: Mapping[str, str] | None,
        check: Check,
        *,
        away: bool = True,
        missing: bool = False,
    ) -> Answer:
        sent = dict(headers or {})

        def ask(take_turn: _TakeTurn) -> Answer:
            url = f"{self.base()}/{repository}/{path}"

            def follow(authorization: str) -> Answer:
                take_turn()
                return self._requester.follow(url, sent, authorization, away=away, method=method)

            return self._authorizer.ask(repository, url, follow, check)

        def answer() -> Answer:
            response = self._known_to_answer(ask, check)
            is_missing = missing and response.status_code == NOT_FOUND
            return response if is_missing else answers.granted(response)

        return self._under_way(answer, check)

    def elsewhere(
        self, url: str, headers: Mapping[str, str], check: Check = lambda: None
    ) -> Answer:
        """Return the answer to GET of a URL that a manifest names, given nothing of ours.

        Raises as get() does.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" and not (
            parts.scheme == "http" and self._settings.may_be_plain(parts.netloc)
        ):
            raise errors.RegistryUnreachable(url, "is not asked: it is no https", False)
        follow = functools.partial(self._requester.follow, url, dict(headers), "")

        def answer() -> Answer:
            return answers.granted(self._patiently(_in_turn(follow), check))

        return self._under_way(answer, check)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None,
        check: Check,
    ) -> Answer:
        """Return the answer to one request, at the pace that the registry bears; its body unread.

        Raises RegistryUnreachable, RateLimited, and what ``check`` raises.
        """
        ask = functools.partial(self._requester.send, method, url, dict(headers), form)
        return self._patiently(_in_turn(ask), check)

    def chunks(self, response: Answer, check: Check) -> Iterator[bytes]:
        """Return the body of a blob's answer, not faster than the operator wants it.

        Raises RegistryUnreachable where it breaks off, TransferTooSlow, and
        what ``check`` raises.
        """
        if not self.is_throttled:
            yield from answers.chunks(response)
            return
        for chunk in answers.chunks(response):
            moment = self._pauses.spend(len(chunk))
            yield chunk
            response.excuse(self._pauses.wait_until(moment, check))

    def _under_way(self, ask: Callable[[], Answer], check: Check) -> Answer:
        """Return an answer that is one of the requests at once until it is closed."""
        leave = self._pauses.enter(check)
        try:
            response = ask()
            response.at_end(leave)
            return response
        except BaseException:
            leave()
            raise

    def _known_to_answer(self, ask: _Ask, check: Check) -> Answer:
        """Return an answer; from then on it is known whether the registry gives any."""
        try:
            self.base(check)  # what that waits for is not this request's
            response = self._patiently(ask, check)
        except (errors.RegistryUnreachable, errors.TransferTooSlow, errors.RateLimited):
            self._pauses.unanswered()
            raise
        self._pauses.answered()
        return response

    def _patiently(self, ask: _Ask, check: Check) -> Answer:
        """Ask at a pace that the registry bears; a pause that it asks for is no failure.

        ``ask`` is given what it is to call before each request.
        """
        patience = _Patience(self._pauses, check)
        while True:
            response = ask(patience.take_turn)
            if not _is_pause(response):
                self._pauses.succeeded(response.headers)
                return response
            response.finish()
            patience.refused(response.headers)

    def base(self, check: Check = lambda: None) -> str:
        """Return the URL of its API, with /v2; found out once.

        https, unless it may be plain and does not speak TLS.  Raises
        RegistryUnreachable where nobody answers, RateLimited, and what
        ``check`` raises.
        """
        if self._base is None:
            with self._lock:
                if self._base is None:
                    self._base = self._find_base(check)
        return self._base

    # -- http or https

    def _find_base(self, check: Check) -> str:
        may_be_plain = self.name not in self._settings.mirrors and (
            self._settings.may_be_plain(self.name)
        )
        return self._url("http" if may_be_plain and self._is_plain(check) else "https")

    def _url(self, scheme: str) -> str:
        mirror = self._settings.mirrors.get(self.name)
        if mirror:
            return f"{mirror.rstrip('/')}/v2"
        return f"{scheme}://{_HUB_HOST if self.name == HUB else self.name}/v2"

    def _is_plain(self, check: Check) -> bool:
        """Return whether a port speaks plain HTTP and not TLS; raises RegistryUnreachable."""
        try:
            self._ask_version("https", check)
        except errors.RegistryUnreachable as e:
            cause = e.__cause__
            if network_errors.speaks_tls(cause):
                return False
            is_late = isinstance(cause, urllib3.exceptions.TimeoutError)
            if is_late or not self._answers_in_plain(check):
                raise
            return True
        return False

    def _answers_in_plain(self, check: Check) -> bool:
        try:
            self._ask_version("http", check)
        except errors.RegistryUnreachable:
            return False
        return True

    def _ask_version(self, scheme: str, check: Check) -> None:
        self._pauses.wait(check)
        response = self._requester.send("GET", f"{self._url(scheme)}/", {})
        response.finish()
        if _is_pause(response):
            now = self._pauses.now()
            self._pauses.refused(response.headers, now, now)


class Registries:
    """The registries of one run, each with its pauses, and the tokens of all."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._tokens = Tokens()
        self._lock = threading.Lock()
        self._known: dict[tuple[str, bool], Registry] = {}
        self._seen: set[tuple[str, ...]] = set()

    def registry(self, name: str, *, insecure: bool = False) -> Registry:
        """Return the registry called ``host[:port]``, always the same one.

        One that is ``insecure`` where the operator has named it so for a
        single use, and says nothing else of it, is a registry by itself.
        """
        name = canonical(name)
        insecure = insecure and self.settings.rules_for(name).insecure is None
        with self._lock:
            if (name, insecure) not in self._known:
                self._known[name, insecure] = self._made(name, insecure=insecure)
            return self._known[name, insecure]

    def _made(self, name: str, *, insecure: bool) -> Registry:
        if not insecure:
            return Registry(name, self.settings, self._tokens)
        rules = dataclasses.replace(self.settings.rules_for(name), insecure=True)
        settings = dataclasses.replace(self.settings, rules={**self.settings.rules, name: rules})
        return Registry(name, settings, Tokens())

    def is_first(self, *words: str) -> bool:
        """Return whether nobody has said these words before in this run."""
        with self._lock:
            before = len(self._seen)
            self._seen.add(words)
            return len(self._seen) > before

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for registry in self._known.values():
                registry.close()


def _in_turn(ask: Callable[[], Answer]) -> _Ask:
    def asked(take_turn: _TakeTurn) -> Answer:
        take_turn()
        return ask()

    return asked


def _is_pause(response: Answer) -> bool:
    status = response.status_code
    return status == _TOO_MANY or (status == _UNAVAILABLE and "Retry-After" in response.headers)
