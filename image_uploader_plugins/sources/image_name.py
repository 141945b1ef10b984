# SPDX-License-Identifier: Apache-2.0
"""Names of images as people write them, read as docker and podman do.

Source: Docker's reference grammar (distribution/reference) and the names of
Docker Hub.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import RepositoryName, Tag, split_digest
from image_uploader_plugins.text import shown

HUB = "docker.io"
_HUB_ALIASES = frozenset({"index.docker.io", "registry-1.docker.io"})
_OFFICIAL = "library"
_DEFAULT_TAG = "latest"
_TRANSPORT = "docker://"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{{1,5}})?")
# Of one digit, a number is no port but the end of a name.
_PREFIX = re.compile(r"(?P<host>[a-z0-9.-]+)(?:_(?P<port>[0-9]{2,5}))?")
_IPV6 = re.compile(r"[0-9a-f]{4}(?:-[0-9a-f]{4}){7}")


class ImageName(NamedTuple):
    """An image in a registry, ``host[:port]``; ``tag`` is None only beside a digest."""

    registry: str
    repository: RepositoryName
    tag: Tag | None
    digest: Digest | None

    @property
    def reference(self) -> Tag | Digest:
        """Return what the image is asked for by: its digest, or else its tag."""
        return self.digest or self.tag or Tag(_DEFAULT_TAG)

    @classmethod
    def parse(cls, text: str) -> ImageName:
        """Read a name; ``nginx`` is ``docker.io/library/nginx:latest``.

        The first part is a registry if it has a dot or a port, or is
        ``localhost``; ``docker://`` before it, as podman and skopeo write it,
        says nothing more.  Raises InvalidReference.
        """
        whole, digest = split_digest(text.removeprefix(_TRANSPORT))
        first, slash, rest = whole.partition("/")
        if slash and _looks_like_registry(first):
            registry, path = first.lower(), rest
        else:
            registry, path = HUB, whole
        if rest.startswith("/"):
            raise errors.InvalidReference(f"names of images have no scheme: {shown(whole)}")
        if not is_address(registry):
            raise errors.InvalidReference(f"not a registry, host or host:port: {shown(first)}")
        registry = canonical(registry)
        path, colon, tag = path.partition(":")
        if registry == HUB and "/" not in path:
            path = f"{_OFFICIAL}/{path}"
        if not colon and digest is None:
            tag, colon = _DEFAULT_TAG, ":"
        return cls(registry, RepositoryName(path), Tag(tag) if colon else None, digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"


def is_registry(text: str) -> bool:
    """Return whether clients take ``text``, before the first "/" of a name, for a registry."""
    return _looks_like_registry(text) and is_address(text)


def is_address(text: str) -> bool:
    """Return whether ``text`` is a host, by name or address, with or without a port."""
    match = _REGISTRY.fullmatch(text)
    try:
        return bool(match and (not match[1] or ipaddress.IPv6Address(match[1])))
    except ValueError:
        return False


def _looks_like_registry(first: str) -> bool:
    return first == "localhost" or bool(re.search(r"[.:]", first))


def canonical(registry: str) -> str:
    """Return ``host[:port]`` as names of images have it: Docker Hub has several."""
    return HUB if registry in _HUB_ALIASES else registry


def prefix_of(registry: str) -> str:
    """Return the first part of full names: the registry, as far as a name can have it.

    A port follows "_", and an IPv6 address has "-" between its eight groups:
    ``registry:5000`` is ``registry_5000``.
    """
    host, port = re.fullmatch(r"(.*?)(?::(\d+))?", registry).groups()  # type: ignore[union-attr]
    if host.startswith("["):
        host = ipaddress.ip_address(host.strip("[]")).exploded.replace(":", "-")
    return f"{host}_{port}" if port else host


def registry_of(prefix: str) -> str | None:
    """Return the registry whose full names begin with ``prefix``; None if that is no registry's."""
    match = _PREFIX.fullmatch(prefix)
    if not match:
        return None
    host, port = match["host"], match["port"]
    if _IPV6.fullmatch(host):
        host = f"[{ipaddress.ip_address(host.replace('-', ':')).compressed}]"
    registry = f"{host}:{port}" if port else host
    return registry if is_registry(registry) else None
