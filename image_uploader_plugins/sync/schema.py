# SPDX-License-Identifier: Apache-2.0
"""The schema of our own lists of images (JSON Schema, draft 2020-12), for us and for editors."""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import Any

_FILE = "images.schema.json"


def text() -> str:
    """Return the schema as editors take it."""
    return importlib.resources.files(__package__).joinpath(_FILE).read_text(encoding="utf-8")


@functools.cache
def loaded() -> dict[str, Any]:
    """Return the schema's fields, with the definitions where they are referred to.

    Looking each of them up takes longer than all the rest of a validation.
    """
    fields: dict[str, Any] = json.loads(text())
    definitions = fields.pop("$defs")
    whole: dict[str, Any] = _whole(fields, definitions)
    return whole


def _whole(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_whole(each, definitions) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _whole(definitions[part["$ref"].rpartition("/")[2]], definitions)
    return {key: _whole(value, definitions) for key, value in part.items()}
