# SPDX-License-Identifier: Apache-2.0
"""A registry's client that believes nothing it has not checked."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
from typing import Any

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Manifest
from tests.support import web

ALL_TYPES = ", ".join(sorted(media_types.MANIFEST_TYPES))
NO_LISTS = f"{media_types.DOCKER_MANIFEST}, {media_types.OCI_MANIFEST}"
_TIMEOUT = 60  # seconds


class BadRead(Exception):
    """An answer that no registry may give; the text says what and where."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What was answered, 200 or 404, to a request for ``url``."""

    url: str
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def found(self) -> bool:
        return self.status == 200

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as e:
            raise BadRead(f"{self.url}: not JSON ({e}): {self.body[:80]!r}") from e

    def manifest(self) -> tuple[Manifest, Digest]:
        """What is in a manifest's answer, if the headers say just that."""
        named = self.digest()
        if Digest.of(self.body, named.algorithm) != named:
            actual = Digest.of(self.body, named.algorithm)
            raise BadRead(f"{self.url}: Docker-Content-Digest {named}, but the body is {actual}")
        try:
            parsed = Manifest.parse(self.body, self.headers["Content-Type"])
        except errors.ManifestInvalid as e:
            raise BadRead(f"{self.url}: {e}") from e
        return parsed, named

    def digest(self) -> Digest:
        try:
            return Digest(self.headers["Docker-Content-Digest"])
        except errors.InvalidReference as e:
            raise BadRead(f"{self.url}: Docker-Content-Digest: {e}") from e


class Client:
    """Asks one server, on one connection as long as it lasts; ``reads`` counts the answers."""

    def __init__(self, kind: web.Kind, address: str) -> None:
        self._kind = kind
        self._address = address
        self._connection = http.client.HTTPConnection(address, timeout=_TIMEOUT)
        self.reads = 0

    def ask(self, path: str, *, method: str = "GET", accept: str = "*/*") -> Answer:
        """Raises BadRead for whatever is neither 200, and whole, nor 404."""
        url = f"{self._kind} {method} {path}"
        response, body = self._exchange(url, method, path, accept)
        if self._is_its_own_way(response, path):
            return self.ask(f"{path}/", method=method, accept=accept)
        self.reads += 1
        if response.status not in (200, 404):
            raise BadRead(f"{url}: {response.status}")
        length = response.headers["Content-Length"]
        if response.status == 200 and (length is None or "Content-Encoding" in response.headers):
            raise BadRead(f"{url}: Content-Length {length}, or an encoding")
        if method == "GET" and length is not None and int(length) != len(body):
            raise BadRead(f"{url}: Content-Length {length}, but {len(body)} bytes")
        return Answer(url, response.status, response.headers, body)

    def _is_its_own_way(self, response: http.client.HTTPResponse, path: str) -> bool:
        # The deployment's virtual host redirects a digest to the manifest's directory.
        return (
            self._kind == "production"
            and response.status == 301
            and "/manifests/sha256:" in path
            and response.headers["Location"] == f"http://{self._address}{path}/"
        )

    def _exchange(
        self, url: str, method: str, path: str, accept: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        # A server may close a connection that was idle just as we ask (RFC 9112,
        # section 9.3.1); that nothing came of a new one, too, is bad.
        fresh = self._connection.sock is None
        try:
            self._connection.request(method, path, headers={"Accept": accept})
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError) as e:
            self._connection.close()
            if fresh:
                raise BadRead(f"{url}: {e!r}") from e
            return self._exchange(url, method, path, accept)
        except (OSError, http.client.HTTPException) as e:
            self._connection.close()
            raise BadRead(f"{url}: {e!r}") from e
        try:
            return response, response.read()
        except (OSError, http.client.HTTPException) as e:
            self._connection.close()
            raise BadRead(f"{url}: cut short: {e!r}") from e

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.close()
