"""Pages of other origins that read a registry in a browser (the Fetch standard's CORS protocol)."""

from __future__ import annotations

from collections.abc import Collection

ANY = "*"
# Beyond what a page may always read: what clients of a registry need.
_EXPOSED = (
    "Docker-Content-Digest, Link, Docker-Distribution-Api-Version, OCI-Filters-Applied, "
    "Content-Range, ETag, WWW-Authenticate"
)
# The answer to the question that a browser asks first.
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Accept, Authorization, If-None-Match, Range, Content-Type",
    "Access-Control-Max-Age": "600",
}


def headers(allowed: Collection[str], origin: str) -> dict[str, str]:
    """Return the headers of every answer to a page of ``origin``; {} where it may read nothing."""
    if ANY not in allowed and origin not in allowed:
        return {}
    return {
        "Access-Control-Allow-Origin": ANY if ANY in allowed else origin,
        "Access-Control-Expose-Headers": _EXPOSED,
    }
