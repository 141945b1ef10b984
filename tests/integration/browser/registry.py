# SPDX-License-Identifier: Apache-2.0
"""A registry that has the page, answers in pages and can be made to lie or break."""

from __future__ import annotations

import json
from collections.abc import Iterable
from email.message import Message
from urllib.parse import parse_qs, quote, urlsplit

from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.registry import SourceRegistry
from image_uploader_plugins.testing.web_server import Answer
from tests.support.registry import TamperedRegistry

JSON = "application/json"
BROKEN = Answer(500, {"Content-Length": "0"})


class _Paged(SourceRegistry):
    """``size`` entries of a list at most in one answer (distribution-spec, "Listing Tags")."""

    def __init__(self, images: Iterable[Image]) -> None:
        super().__init__(images)
        self.size = 100

    def __call__(self, path: str, headers: Message) -> Answer:
        parts = urlsplit(path)
        if parts.path == "/":
            return Answer.of(documents.PAGE, "text/html; charset=utf-8")
        if parts.path == "/v2/_catalog":
            return self._page(parts.path, parts.query, "repositories", sorted(self.tags))
        if parts.path.endswith("/tags/list"):
            name = parts.path.removeprefix("/v2/").removesuffix("/tags/list")
            return self._page(parts.path, parts.query, "tags", sorted(self.tags.get(name, [])))
        return super().__call__(path, headers)

    def _page(self, path: str, query: str, field: str, entries: list[str]) -> Answer:
        asked = parse_qs(query)
        last = asked.get("last", [""])[0]
        size = min(self.size, int(asked.get("n", [self.size])[0]))
        rest = [entry for entry in entries if entry > last]
        more = {}
        if len(rest) > size:
            target = f"{path}?last={quote(rest[size - 1], safe='')}&n={size}"
            more["Link"] = f'<{target}>; rel="next"'
        return Answer.of(json.dumps({field: rest[:size]}).encode(), JSON, **more)


class Pretender(TamperedRegistry, _Paged):
    """With what TamperedRegistry can do to each answer."""

    def break_(self, part: str, answer: Answer = BROKEN) -> None:
        """Give ``answer`` to whatever has ``part`` in its path."""
        self.tamper[part] = lambda _, __: answer

    def say(self, part: str, value: object, media_type: str = JSON, **headers: str) -> None:
        """Answer with ``value``: bytes as they are, all else as JSON."""
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.break_(part, Answer.of(content, media_type, **headers))
