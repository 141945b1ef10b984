# SPDX-License-Identifier: Apache-2.0
"""Which manifests a client takes, by its Accept (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re

from image_uploader_plugins import media_types

# NOTE: one that does not end goes on to the end of the field.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?$)')
_NEVER = re.compile(r"q=0(?:\.0{0,3})?")
_SINGLE = media_types.MANIFEST_TYPES - media_types.INDEX_TYPES


def takes_no_list(accept: str) -> bool:
    """Tell whether ``accept`` takes manifests of images and no list of them.

    ``accept`` is the whole field: several lines are one list (RFC 9110, 5.3).
    Types are compared without case and parameters, the most specific range
    decides, and a weight of 0 means "not this".  A client that says nothing
    of manifests takes whatever there is.
    """
    ranges = _ranges(accept)
    return any(_taken(ranges, known) for known in _SINGLE) and not any(
        _taken(ranges, known) for known in media_types.INDEX_TYPES
    )


def _taken(ranges: dict[str, bool], media_type: str) -> bool:
    for name in (media_type, "application/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return False


def _ranges(accept: str) -> dict[str, bool]:
    """Yield each media range in lower case, and whether its weight is more than 0."""
    ranges: dict[str, bool] = {}
    for element in _QUOTED.sub("", accept).lower().split(","):
        name, *parameters = (part.strip(" \t") for part in element.split(";"))
        weighed = not any(map(_NEVER.fullmatch, parameters))
        ranges[name] = ranges.get(name, False) or weighed
    return ranges
