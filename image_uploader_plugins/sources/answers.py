"""What registries and token servers say in JSON, read without trust."""

from __future__ import annotations

import json
from typing import Any


def fields(body: bytes) -> dict[str, Any]:
    """Return an answer's object; an empty one for anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def said(body: bytes) -> tuple[str, str]:
    """Return the code and the message of the first error in an answer, "" where there is none.

    Source: OCI distribution-spec 1.1, "Error Codes".  Token servers say
    "details", "error_description" or "message" instead.
    """
    found = fields(body)
    listed = found.get("errors")
    first = listed[0] if isinstance(listed, list) and listed else found
    first = first if isinstance(first, dict) else {}
    code, message = first.get("code"), first.get("message")
    for name in ("error_description", "details", "error", "detail"):
        message = message or first.get(name)
    return _text(code), _text(message)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
