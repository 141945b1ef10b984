# SPDX-License-Identifier: Apache-2.0
"""Pages of other origins that read a registry in a browser (the Fetch standard's CORS protocol)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from image_uploader_plugins import errors

ANY = "*"
# RFC 6454, 6.2, as browsers write it: in lower case, and without a path.
_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9](?:[a-z0-9_.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
)
# Beyond what a page may always read: what clients of a registry need.
EXPOSED = (
    "Docker-Content-Digest, Link, Docker-Distribution-Api-Version, OCI-Filters-Applied, "
    "Content-Range, ETag, WWW-Authenticate"
)
# The answer to the question that a browser asks first.
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Accept, Authorization, If-None-Match, Range, Content-Type",
    "Access-Control-Max-Age": "600",
}


def check(origins: Iterable[str]) -> None:
    """Raise ConfigurationError for what is neither ``*`` nor an origin as browsers send it."""
    for origin in origins:
        if origin != ANY and not _ORIGIN.fullmatch(origin):
            raise errors.ConfigurationError(
                f"--allow-origin is neither * nor scheme://host[:port] in lower case: {origin!r}"
            )


def headers(allowed: Collection[str], origin: str) -> dict[str, str]:
    """Return the headers of every answer to a page of ``origin``; {} where it may read nothing."""
    if ANY not in allowed and origin not in allowed:
        return {}
    return {
        "Access-Control-Allow-Origin": ANY if ANY in allowed else origin,
        "Access-Control-Expose-Headers": EXPOSED,
    }
