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
    """Return the schema's fields."""
    fields: dict[str, Any] = json.loads(text())
    return fields
