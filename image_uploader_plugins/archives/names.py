# SPDX-License-Identifier: Apache-2.0
"""Names of images in archives, in all spellings.

Source: distribution's package reference, "normalize" (Docker's familiar
names): a first segment with a dot or a port is a host, and so is
``localhost``; without a host it is Docker Hub's, where ``nginx`` is short for
``library/nginx``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import RepositoryName, Tag

_HOST = re.compile(
    r"localhost|(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+|[A-Za-z0-9.-]+:\d+|\[[0-9A-Fa-f:]+\](?::\d+)?"
)
_HUB = "docker.io"
_HUBS = frozenset({_HUB, "index.docker.io"})
_LIBRARY = "library/"
# An image's ID, by which `docker save` and containerd go where there is no name.
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_NONE = "<none>:<none>"  # what docker calls an image that has lost its tag


class ImageName(NamedTuple):
    """A name without its host; any part of it may be missing."""

    repository: RepositoryName | None = None
    tag: Tag | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str, *, hub: bool = True) -> ImageName:
        """Read ``[host/]name[:tag][@digest]``, or a tag alone; raises InvalidReference.

        With ``hub`` what has no host is Docker Hub's.
        """
        host, name = _split(text)
        name, at, digest = name.partition("@")
        name, colon, tag = name.partition(":")
        if not at and not colon:
            # NOTE: skopeo writes just a tag for oci:directory:tag.
            return cls(tag=Tag(name)) if not host and "/" not in name else cls()
        if "/" not in name and (host in _HUBS or (hub and not host)):
            name = _LIBRARY + name
        return cls(
            RepositoryName(name), Tag(tag) if colon else None, Digest(digest) if at else None
        )


def named(text: str | None) -> str | None:
    """Return the name that an archive gives; None for an image's ID, which is none."""
    return text if text and text != _NONE and not _ID.fullmatch(text) else None


def is_host(text: str) -> bool:
    """Tell whether the first segment of a name is a host."""
    return _HOST.fullmatch(text) is not None


def spellings(text: str, *, hub: bool = True) -> set[str]:
    """Return the ways to write the same name, with a host and without."""
    host, name = _split(text)
    found = {text, name}
    if host in _HUBS or (hub and not host):
        short = name.removeprefix(_LIBRARY)
        long = name if "/" in short else _LIBRARY + short
        short = short if "/" not in short else name
        found |= {short, long, f"{_HUB}/{short}", f"{_HUB}/{long}"}
    return found


def _split(text: str) -> tuple[str, str]:
    """Split a name into its host, if any, and the rest."""
    first, _, rest = text.partition("/")
    return (first, rest) if rest and is_host(first) else ("", text)
