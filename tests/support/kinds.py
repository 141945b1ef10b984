# SPDX-License-Identifier: Apache-2.0
"""Registries by the names that they have, each with the manners that are documented of it.

What a host is called is all that is not real here: TLS, and whatever is asked
and answered, goes through sockets.
"""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import urllib3

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import odd_registry, tls
from tests.support.odd_registry import Asked, OddRegistry, Reply, text

EXPIRED = {"code": "DENIED", "message": "Your authorization token has expired. Reauthenticate."}


class Kind:
    """A registry with one image, which answers by the names of its hosts.

    ``name`` is what people call the image, ``host`` who is asked for it, and
    ``storage`` whom its blobs are redirected to.
    """

    name: ClassVar[str]
    host: ClassVar[str]
    repository: ClassVar[str]
    realm: ClassVar[str] = ""
    service: ClassVar[str] = ""
    storage: ClassVar[str] = ""
    query: ClassVar[str] = "signature=S"
    login: Login | None = Login("user", "secret")

    def __init__(self) -> None:
        layers = [images.layer({"a": b"a"}, oci=True), images.layer({"b": b"b"}, oci=True)]
        self.image: Image = images.image(self.repository, "1", layers, oci=True)
        self.registry = OddRegistry([self.image], self)
        self.tokens: list[str] = []

    def __call__(self, asked: Asked) -> Reply | None:
        host = asked.headers["Host"]
        if self.realm and f"https://{host}{asked.path}" == self.realm:
            return self.token(asked)
        if host == self.host:
            return self.ping(asked) if asked.path == "/v2/" else self.below(asked)
        if host == urllib.parse.urlsplit(self.storage).netloc:
            return self.stored(asked)
        return Reply(418)

    # -- what kinds have in common, and do differently

    def ping(self, asked: Asked) -> Reply | None:
        """``/v2/``: it wants a login, too."""
        return self.refusal(asked)

    def below(self, asked: Asked) -> Reply | None:
        if refused := self.refusal(asked):
            return refused
        if "/referrers/" in asked.path:
            return self.referrers(asked)
        if "/blobs/" in asked.path and self.storage:
            digest = asked.path.rpartition("/")[2]
            return Reply(307, (("Location", f"{self.storage}/{digest}?{self.query}"),))
        return self.content(asked)

    def refusal(self, asked: Asked) -> Reply | None:
        """What somebody is told who shows no token that is good."""
        if self.tokens and asked.authorization == f"Bearer {self.tokens[-1]}":
            return None
        return unauthorized(self.challenge(self.repository))

    def challenge(self, repository: str) -> str:
        scope = f"repository:{repository}:pull"
        return f'Bearer realm="{self.realm}",service="{self.service}",scope="{scope}"'

    def token(self, asked: Asked) -> Reply:
        if self.login and asked.authorization != self.login.basic:
            return text({"errors": [{"code": "UNAUTHORIZED", "message": "who?"}]}, 401)
        return text(self.given(self.new_token()))

    def new_token(self) -> str:
        self.tokens.append(f"{self.host}-{len(self.tokens)}")
        return self.tokens[-1]

    def given(self, token: str) -> dict[str, Any]:
        """What a token server answers."""
        return {"token": token}

    def referrers(self, asked: Asked) -> Reply | None:
        """It has no such API."""
        return Reply(404, (("Content-Type", "text/plain"),), b"404 page not found\n")

    def content(self, asked: Asked) -> Reply | None:
        return None

    def stored(self, asked: Asked) -> Reply:
        """Storage, which refuses who has two ways to prove who he is, as S3 and Azure do."""
        if asked.authorization or asked.query != urllib.parse.parse_qs(self.query):
            return Reply(400, (), b"<Error><Code>InvalidArgument</Code></Error>")
        return Reply(body=self.image.blobs[Digest(asked.path.rpartition("/")[2])])

    # -- what was asked

    def saw(self) -> dict[str, set[str | None]]:
        """The Authorizations that came, by host."""
        found: dict[str, set[str | None]] = {}
        for asked in self.registry.asked:
            found.setdefault(asked.headers["Host"], set()).add(asked.authorization)
        return found

    def bearers(self) -> set[str | None]:
        return {f"Bearer {token}" for token in self.tokens}

    def asked_for_tokens(self) -> list[Asked]:
        path = urllib.parse.urlsplit(self.realm).path
        return [asked for asked in self.registry.asked if asked.path == path]


def unauthorized(*challenges: str, code: str = "UNAUTHORIZED", status: int = 401) -> Reply:
    """A refusal as distribution's registry has it."""
    asked = [("WWW-Authenticate", challenge) for challenge in challenges]
    fields = (("Docker-Distribution-Api-Version", "registry/2.0"), *asked)
    body = {"errors": [{"code": code, "message": "authentication required", "detail": None}]}
    return Reply(status, fields, json.dumps(body).encode())


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate and its key for the hosts of all kinds."""
    names = {
        urllib.parse.urlsplit(url).hostname
        for kind in _all(Kind)
        for url in (f"https://{kind.host}", kind.realm, kind.storage)
    }
    listed = ",".join(f"DNS:{name}" for name in sorted(filter(None, names)))
    return tls.make(folder, names=listed)


def _all(kind: type[Kind]) -> Iterator[type[Kind]]:
    for derived in kind.__subclasses__():
        yield derived
        yield from _all(derived)


@contextlib.contextmanager
def answering(
    kind: Kind, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, plain: int = 0
) -> Iterator[None]:
    """Have whatever name leads to ``kind``; a port of it may be ``plain``, without TLS."""
    real = urllib3.util.connection.create_connection
    with (
        odd_registry.serving(kind.registry, pair) as secure,
        odd_registry.serving(kind.registry) as clear,
    ):

        def connect(address: tuple[str, int], *more: Any, **options: Any) -> Any:
            host, _, port = (clear if address[1] == plain else secure).partition(":")
            return real((host, int(port)), *more, **options)

        monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
        yield
