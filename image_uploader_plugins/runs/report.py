# SPDX-License-Identifier: Apache-2.0
"""A run as JSON, for machines; doc/source/results.rst has every field."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterable, Iterator
from typing import Any

from image_uploader_plugins.runs.records import ImageRecord, RunRecord, Tally
from image_uploader_plugins.units import rfc_3339

SCHEMA_VERSION = 1
"""Grows when a field changes its meaning or goes; new fields may come without."""

_DISTRIBUTION = "image-uploader-plugins"


def parts(run: RunRecord) -> Iterator[str]:
    """Yield the report, as JSON, image by image: it is never in the memory as a whole."""
    yield _json(_head(run)).removesuffix("\n}") + ',\n  "images": ['
    separator = ""
    for image in run.images:
        yield f"{separator}\n    {_json(_image(image), 2)}"
        separator = ","
    yield "\n  ]" if run.images else "]"
    yield f',\n  "entries_left": {_json(list(run.entries_left), 1)}\n}}\n'


def _json(value: object, depth: int = 0) -> str:
    """Return a value as JSON, in the place of a value that is ``depth`` steps below the top."""
    # No string has a line break in JSON.
    return json.dumps(value, indent=2).replace("\n", "\n" + "  " * depth)


def _head(run: RunRecord) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "version": importlib.metadata.version(_DISTRIBUTION),
        "command": run.command,
        "started": rfc_3339(run.started),
        "seconds": _seconds(run.seconds),
        "status": run.status,
        "why": run.why,
        "summary": {
            "images": {"total": len(run.images)} | run.by_status(),
            "layers": _layers(run.images),
            "bytes_fetched": run.bytes_fetched,
        },
        "deleted": list(run.deleted),
    }


def _image(image: ImageRecord) -> dict[str, Any]:
    return {**dataclasses.asdict(image), "seconds": _seconds(image.seconds)}


def _layers(images: Iterable[ImageRecord]) -> dict[str, Any]:
    return {str(o): dataclasses.asdict(t) for o, t in Tally.by_outcome(images).items()}


def _seconds(value: float) -> float:
    return round(value, 3)
