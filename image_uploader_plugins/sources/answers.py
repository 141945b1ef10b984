# SPDX-License-Identifier: Apache-2.0
"""Answers of registries and token servers, read without trust."""

from __future__ import annotations

import base64
import http
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any

import urllib3

from image_uploader_plugins import errors, strict_json
from image_uploader_plugins.sources.session import Answer

CHUNK = 256 * 1024
"""The most bytes of a body at once; what comes slowly is not waited for."""

_GRANTED = frozenset({http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT})
_REFUSAL_LIMIT = 64 * 1024  # bytes of a refusal that are read
_PROSE_LIMIT = 4096  # bytes
_TITLE = re.compile(r"<title>([^<]*)</title>", re.IGNORECASE)
# Shorter ones are no secrets, and parts of words.
_SHORTEST_SECRET = 4


def chunks(response: Answer) -> Iterator[bytes]:
    """Return a body as it comes; raises RegistryUnreachable where it breaks off."""
    try:
        yield from response.chunks(CHUNK)
    except (urllib3.exceptions.HTTPError, OSError) as e:
        raise errors.RegistryUnreachable(response.url, f"the answer breaks off: {e}") from e


def whole(response: Answer, limit: int) -> bytes | None:
    """Return a whole body of at most ``limit`` bytes, None for a longer one.

    Raises RegistryUnreachable where it breaks off.
    """
    content = bytearray()
    for chunk in chunks(response):
        content += chunk
        if len(content) > limit:
            return None
    return bytes(content)


def body(response: Answer, limit: int) -> bytes:
    """Return a whole body; raises RegistryUnreachable also for one of more than ``limit`` bytes."""
    content = whole(response, limit)
    if content is None:
        raise errors.RegistryUnreachable(
            response.url, f"answers with more than {limit} bytes", False
        )
    return content


def granted(response: Answer) -> Answer:
    """Return an answer that is what was asked for; raises RegistryError for a refusal."""
    if response.status_code in _GRANTED:
        return response
    with response:
        try:
            content = body(response, _REFUSAL_LIMIT)
        except errors.RegistryUnreachable:
            content = b""
    told = said(content, _secrets(response))
    raise errors.RegistryError(response.url, response.status_code, *told)


def _secrets(response: Answer) -> Iterator[str]:
    """Yield what the request told the server, and nobody else is to know."""
    scheme, _, value = response.sent.get("Authorization", "").partition(" ")
    yield value
    if scheme == "Basic":
        yield base64.b64decode(value).decode(errors="replace").partition(":")[2]
    query = urllib.parse.urlsplit(response.url).query
    yield from (value for _, value in urllib.parse.parse_qsl(query))


def fields(body: bytes) -> dict[str, Any]:
    """Return an answer's object; an empty one for anything else."""
    try:
        found = strict_json.load_leniently(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def said(body: bytes, secrets: Iterable[str] = ()) -> tuple[str, str]:
    """Return the code and the message of the first error in an answer, "" where there is none.

    The ``secrets``, which servers may repeat, are removed from them.

    Source: OCI distribution-spec 1.1, "Error Codes".  Token servers say
    "details", "error_description" or "message" instead; proxies write HTML, or
    plain text.
    """
    found = fields(body)
    listed = found.get("errors")
    first = listed[0] if isinstance(listed, list) and listed else found
    first = first if isinstance(first, dict) else {}
    code, message = first.get("code"), first.get("message") if found else _prose(body)
    for name in ("error_description", "details", "error", "detail"):
        message = message or first.get(name)
    hidden = sorted(filter(_is_secret, secrets), key=len, reverse=True)
    return _text(code, hidden), _text(message, hidden)


def _is_secret(text: str) -> bool:
    return len(text) >= _SHORTEST_SECRET


def _text(value: object, hidden: Iterable[str]) -> str:
    text = value if isinstance(value, str) else ""
    for secret in hidden:
        text = text.replace(secret, "[...]")
    return text


def _prose(body: bytes) -> str:
    """Return the title of a page, or the first line of a text; "" for what is neither."""
    text = body[:_PROSE_LIMIT].decode(errors="replace").strip()
    if title := _TITLE.search(text):
        return str(title[1]).strip()
    return "" if text.startswith(("<", "{", "[", '"')) else text.partition("\n")[0].strip()
