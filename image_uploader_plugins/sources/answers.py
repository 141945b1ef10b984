# SPDX-License-Identifier: Apache-2.0
"""What registries and token servers say in JSON, read without trust."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

_PROSE_LIMIT = 4096  # bytes
_TITLE = re.compile(r"<title>([^<]*)</title>", re.IGNORECASE)


def fields(body: bytes) -> dict[str, Any]:
    """Return an answer's object; an empty one for anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# Shorter ones are no secrets, and parts of words.
_SHORTEST_SECRET = 4


def said(body: bytes, secrets: Iterable[str] = ()) -> tuple[str, str]:
    """Return the code and the message of the first error in an answer, "" where there is none.

    Without the ``secrets``, which servers repeat to whoever sent them.

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
