# SPDX-License-Identifier: Apache-2.0
"""Requests of HTTP to servers that are not trusted, one by one."""

from __future__ import annotations

import re
import threading
import urllib.parse
from collections.abc import Mapping

import urllib3

from image_uploader_plugins import errors
from image_uploader_plugins.sources import network_errors, proxies
from image_uploader_plugins.sources.session import Answer, Session
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.text import redacted, shown

_ALWAYS = {
    "Accept": "*/*",
    # Bytes as they are stored: a body encoded on the way has another digest.
    "Accept-Encoding": "identity",
    "Connection": "keep-alive",
    "User-Agent": "image-uploader",
}
_REDIRECTS = 5
# As urllib.parse.urlsplit() takes it out of a URL, and much faster.
_NETLOC = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)


class Requester:
    """A client with connections of its own for each host; safe from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}

    def close(self) -> None:
        """Close its connections."""
        with self._lock:
            for found in self._sessions.values():
                found.close()
            self._sessions.clear()

    def follow(
        self,
        url: str,
        headers: dict[str, str],
        authorization: str,
        *,
        away: bool = True,
        method: str = "GET",
    ) -> Answer:
        """Return the answer to GET or HEAD of a URL, or of where it leads to.

        ``authorization`` is told to the host of the URL alone.  Raises
        RegistryUnreachable, also for redirects without end and from https to
        http, and unless ``away`` RegistryError for one to another host.
        """
        first = url
        for _ in range(_REDIRECTS + 1):
            told = authorization and _is_one_origin(url, first)
            sent = {**headers, "Authorization": authorization} if told else headers
            response = self.send(method, url, sent)
            if not response.is_redirect:
                return response
            response.finish()
            target = self._redirected(url, response.headers["Location"])
            if not away and not _is_one_origin(target, first):
                raise errors.RegistryError(url, response.status_code, "", f"leads to {target}")
            url = target
        raise errors.RegistryUnreachable(url, f"more than {_REDIRECTS} redirects", False)

    def _redirected(self, url: str, location: str) -> str:
        try:
            target = urllib.parse.urljoin(url, location)
        except ValueError:
            target = ""
        parts = parts_of(target)
        if not parts.netloc:
            raise errors.RegistryUnreachable(
                url, f"leads to what is no URL of HTTP: {shown(location)}", False
            )
        if parts.scheme == "http" and url.startswith("https:"):
            raise errors.RegistryUnreachable(
                url, f"leads from https to {redacted(target)}, which is not followed", False
            )
        return target

    def send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the answer to one request, its body unread; raises RegistryUnreachable."""
        sent = _ALWAYS | headers
        body = None
        if form:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(form)
        named = _NETLOC.match(url)
        netloc = named[1] if named else ""
        try:
            session = self._sessions.get(netloc) or self._opened(netloc)
            return session.send(method, url, sent, body)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as e:
            folder = self._settings.certificates(netloc)
            raise network_errors.unreachable(url, e, folder) from e

    def _opened(self, netloc: str) -> Session:
        with self._lock:
            if netloc not in self._sessions:
                settings = self._settings
                context = settings.context(netloc)
                self._sessions[netloc] = Session(
                    settings.limits, context, settings.read_timeout, proxies.proxy
                )
            return self._sessions[netloc]


def parts_of(url: str) -> urllib.parse.SplitResult:
    """Return the parts of a URL that a server names, none where it is no URL of HTTP."""
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https") and (parts.port or parts.hostname):
            return parts
    except ValueError:  # of an address or a port that is none
        pass
    return urllib.parse.SplitResult("", "", "", "", "")


def _is_one_origin(one: str, other: str) -> bool:
    return one == other or _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
