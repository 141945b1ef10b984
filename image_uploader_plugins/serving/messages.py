# SPDX-License-Identifier: Apache-2.0
"""Requests and responses of a WSGI application (PEP 3333)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import werkzeug.wrappers
from werkzeug.http import HTTP_STATUS_CODES

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_WITHOUT_BODY = (204, 304)


class Request:
    """A request.

    ``query`` is the URL's, as it is.  It and the entity tags are parsed only
    where something asks for them.
    """

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        path: str = environ["PATH_INFO"]
        if not path.isascii():
            path = path.encode("latin-1").decode(errors="replace")
        self.path = "/" + path.lstrip("/")
        self.query: str = environ["QUERY_STRING"]

    def field(self, key: str) -> str | None:
        """Return a field of the header by its name in WSGI, such as ``HTTP_ACCEPT``."""
        return self._environ.get(key)

    def argument(self, name: str) -> str:
        """Return an argument of the query, "" if it is not there."""
        return self._parsed.args.get(name, "") if self.query else ""

    def wants_other_than(self, etag: str) -> bool:
        """Return whether If-Match is there and names other content (RFC 9110, 13.1.1)."""
        return "HTTP_IF_MATCH" in self._environ and not self._parsed.if_match.contains(etag)

    def knows(self, etag: str) -> bool:
        """Return whether If-None-Match names this content (RFC 9110, 13.1.2)."""
        asked = "HTTP_IF_NONE_MATCH" in self._environ
        return asked and self._parsed.if_none_match.contains_weak(etag)

    def takes_gzip(self) -> bool:
        """Return whether the client takes an answer in gzip (RFC 9110, 12.5.3)."""
        return self._parsed.accept_encodings.quality("gzip") > 0

    @functools.cached_property
    def _parsed(self) -> werkzeug.wrappers.Request:
        return werkzeug.wrappers.Request(self._environ)


class Response:
    """A response, which is a WSGI application; ``close`` is called when it was sent."""

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: Iterable[bytes] = (),
        close: Callable[[], None] | None = None,
    ) -> None:
        self.status = status
        self.headers = dict(headers)
        self._body = body
        self.close = close

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(f"{self.status} {HTTP_STATUS_CODES[self.status]}", [*self.headers.items()])
        if environ["REQUEST_METHOD"] == "HEAD" or self.status in _WITHOUT_BODY:
            if self.close:
                self.close()
            return ()
        return Body(self._body, self.close) if self.close else self._body


class Body:
    """The bytes of an answer, and the call that ends it."""

    def __init__(self, content: Iterable[bytes], close: Callable[[], None]) -> None:
        self.content = content
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.content)
