# SPDX-License-Identifier: Apache-2.0
"""A plan, written for people and for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from image_uploader_plugins.reference import ImageRef
from image_uploader_plugins.sync.planning import Plan, PlannedImage, State
from image_uploader_plugins.sync.space import Need
from image_uploader_plugins.units import plural, size

SCHEMA_VERSION = 1
"""Grows when a field changes its meaning or goes; new fields may come without."""

_COLUMNS = 80


def text(plan: Plan) -> Iterator[str]:
    """Yield the lines of a plan: the counts, and every image that does not stay as it is."""
    yield counts(plan)
    yield _sum(plan)
    for planned, need in zip(plan.images, plan.needs, strict=True):
        if planned.state in (State.NEW, State.CHANGED):
            yield _line(planned.state, size(need.blob_bytes), planned.record.source)
    for going in plan.going:
        for tag in (*going.tags, *going.stale):
            yield _line("delete", "", str(ImageRef(going.name, tag)))
    for problem in _problems(plan):
        yield from textwrap.wrap(
            problem,
            _COLUMNS,
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def counts(plan: Plan) -> str:
    """Return how many images there are of each state, in one line."""
    found = ", ".join(f"{plan.count(state)} {state}" for state in State)
    return f"{found}, {plan.deletions} to delete"


def as_dict(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON has it."""
    count, files = plan.need.stored(plan.room)
    room = plan.room
    return {
        "schema_version": SCHEMA_VERSION,
        "summary": {
            **{str(state): plan.count(state) for state in State},
            "to_delete": plan.deletions,
            "bytes_to_fetch": plan.need.blob_bytes,
            "at_most": plan.need.at_most,
            "bytes_to_store": count,
            "files_to_store": files,
            "bytes_free": room.bytes if room else None,
            "files_free": room.files if room else None,
        },
        "images": [
            _image(planned, need, plan)
            for planned, need in zip(plan.images, plan.needs, strict=True)
        ],
        "delete": [
            str(ImageRef(going.name, tag))
            for going in plan.going
            for tag in (*going.tags, *going.stale)
        ],
        "problems": [going.problem for going in plan.going if going.problem],
    }


def as_json(plan: Plan) -> str:
    """Return a plan as a JSON text."""
    return json.dumps(as_dict(plan), indent=2)


def _image(planned: PlannedImage, need: Need, plan: Plan) -> dict[str, Any]:
    count, files = need.stored(plan.room)
    record = planned.record
    return {
        "source": record.source,
        "target": planned.target,
        "state": planned.state,
        "why": record.why if planned.state is State.FAILED else None,
        "digest": planned.digest,
        "wanted_by": list(planned.image.where),
        "bytes_to_fetch": need.blob_bytes,
        "bytes_to_store": count,
        "files_to_store": files,
    }


def _sum(plan: Plan) -> str:
    count, files = plan.need.stored(plan.room)
    at_most = "at most " if plan.need.at_most else ""
    line = f"{at_most}{size(plan.need.blob_bytes)} to fetch, {at_most}{size(count)}"
    if plan.room is None:
        return f"{line} to store"
    line += f" and {plural(files, 'file')} to store, {size(plan.room.bytes)}"
    if plan.room.files is not None:
        line += f" and {plural(plan.room.files, 'file')}"
    return f"{line} free"


def _line(state: str, count: str, name: str) -> str:
    return f"{state:<9} {count:>9}  {name}"


def _problems(plan: Plan) -> Iterator[str]:
    for planned in plan.images:
        if planned.state is State.FAILED:
            yield f"failed: {planned.record.why}"
    yield from (going.problem for going in plan.going if going.problem)
