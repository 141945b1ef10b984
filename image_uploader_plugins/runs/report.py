# SPDX-License-Identifier: Apache-2.0
"""A run as JSON, for machines; doc/source/results.rst has every field."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterable
from typing import Any

from image_uploader_plugins.runs.records import ImageRecord, RunRecord, Tally
from image_uploader_plugins.units import rfc_3339

SCHEMA_VERSION = 1
"""Grows when a field changes its meaning or goes; new fields may come without."""

_DISTRIBUTION = "image-uploader-plugins"


def text(run: RunRecord) -> str:
    """Return the report, as JSON."""
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "version": importlib.metadata.version(_DISTRIBUTION),
        "command": run.command,
        "started": rfc_3339(run.started),
        "seconds": _seconds(run.seconds),
        "status": run.status,
        "why": run.why,
        "summary": {
            "images": {"total": len(run.images)} | run.count(),
            "layers": _layers(run.images),
            "bytes_fetched": run.bytes_fetched,
        },
        "images": list(map(_image, run.images)),
        "entries_left": list(run.entries_left),
    }
    return json.dumps(fields, indent=2) + "\n"


def _image(image: ImageRecord) -> dict[str, Any]:
    return {**dataclasses.asdict(image), "seconds": _seconds(image.seconds)}


def _layers(images: Iterable[ImageRecord]) -> dict[str, Any]:
    return {str(o): dataclasses.asdict(t) for o, t in Tally.by_outcome(images).items()}


def _seconds(value: float) -> float:
    return round(value, 3)
