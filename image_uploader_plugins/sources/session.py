# SPDX-License-Identifier: Apache-2.0
"""HTTP with servers that are not trusted: no answer is without end."""

from __future__ import annotations

import contextlib
import http.client
import http.cookiejar
import io
import ssl
import urllib.parse
from collections.abc import Callable
from typing import Any

import requests
import urllib3
from requests import adapters

from image_uploader_plugins import errors
from image_uploader_plugins.pace import Limits, Pace

# NOTE: trust.py warns once of each host that is not verified; urllib3 would warn each time.
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


_CONNECTIONS = 64  # that wait for their next request: more than a run has threads
_REST_LIMIT = 64 * 1024  # bytes that are read for a connection to go on


class _PacedReader(io.RawIOBase):
    """The bytes from a server, as long as it keeps ``pace``."""

    def __init__(self, raw: io.RawIOBase, pace: Pace) -> None:
        self._raw = raw
        self._pace = pace

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._pace.wait()
        count: int | None = self._raw.readinto(buffer)
        self._pace.arrived(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Paced(http.client.HTTPConnection):
    """A connection each of whose answers is held to ``limits``, headers and all.

    NOTE: urllib3 and requests time the pauses alone, and a byte in time is no pause.
    """

    limits = Limits()
    pace: Pace | None = None  # of the answer that comes
    _what = ""

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        # Without what may be a secret in it.
        self._what = f"{self.host}:{self.port}{urllib.parse.urlsplit(url).path}"
        super().putrequest(method, url, *args, **kwargs)

    def response_class(self, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        answer = http.client.HTTPResponse(sock, *args, **kwargs)
        self.pace = Pace(self._what, self.limits)
        answer.fp = io.BufferedReader(_PacedReader(answer.fp.detach(), self.pace))
        return answer


def _pools(limits: Limits) -> dict[str, Any]:
    """Return the connection pools of urllib3, with connections that have limits."""
    return {
        scheme: type(
            "Pool",
            (pool,),
            {"ConnectionCls": type("Connection", (_Paced, pool.ConnectionCls), {"limits": limits})},
        )
        for scheme, pool in (
            ("http", urllib3.HTTPConnectionPool),
            ("https", urllib3.HTTPSConnectionPool),
        )
    }


class _Adapter(adapters.HTTPAdapter):
    """An adapter that asks once, and leaves the reading of bodies to the caller.

    NOTE: requests itself reads all of a redirect's body, and urllib3 would
    sleep as long as Retry-After says.
    """

    def __init__(self, limits: Limits, context: ssl.SSLContext | None = None) -> None:
        self._limits = limits
        self._context = context
        retries = urllib3.Retry(0, read=False, respect_retry_after_header=False)
        super().__init__(max_retries=retries, pool_maxsize=_CONNECTIONS)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)
        self.poolmanager.pool_classes_by_scheme = _pools(self._limits)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs, ssl_context=self._context)
        manager.pool_classes_by_scheme = _pools(self._limits)
        return manager

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **kwargs)
        if response.is_redirect:
            finish(response)
            response.raw = io.BytesIO()
        return response


def finish(response: requests.Response) -> None:
    """Give a response up; where its body is short its connection goes on, else it is closed."""
    raw, left = response.raw, _REST_LIMIT
    if isinstance(raw, urllib3.BaseHTTPResponse):  # and not what stands for a redirect's
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError, errors.SourceError):
            # NOTE: at its end urllib3 keeps the connection for the next request.
            while left > 0 and (chunk := raw.read(left, decode_content=False)):
                left -= len(chunk)
    raw.close()


def closed_with(response: requests.Response, also: Callable[[], object]) -> requests.Response:
    """Return a response that calls ``also`` once, when it is closed."""
    close, left = response.close, [also]

    def close_both() -> None:
        try:
            close()
        finally:
            if left:
                left.pop()()

    response.close = close_both  # type: ignore[method-assign]
    return response


def excuse(response: requests.Response, seconds: float) -> None:
    """Note that for so many seconds nobody read: the server's time for its answer is longer."""
    pace: Pace | None = getattr(getattr(response.raw, "connection", None), "pace", None)
    if pace:
        pace.excuse(seconds)


def untrusting(
    limits: Limits | None = None, context: ssl.SSLContext | None = None
) -> requests.Session:
    """Return a session that asks once, streams, and keeps nothing that servers say.

    An answer that does not keep to ``limits`` raises TransferTooSlow.
    ``context`` is how TLS is spoken.
    """
    session = requests.Session()
    # NOTE: or requests asks .netrc, and lets the environment switch CAs.
    session.trust_env = False
    session.stream = True
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=()))
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter(limits or Limits(), context))
    return session
