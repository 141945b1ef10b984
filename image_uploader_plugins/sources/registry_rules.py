# SPDX-License-Identifier: Apache-2.0
"""What an operator says of one registry: trust, login, mirrors and limits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.sources.image_name import is_address
from image_uploader_plugins.text import shown


@dataclasses.dataclass(frozen=True)
class RegistryRules:
    """How one registry is asked; None and 0 mean what holds for every registry.

    ``insecure`` takes precedence over the option insecure_registries, over
    registries.conf and over what holds for this machine: with False nothing but verified
    TLS will do.  ``certs_dir`` takes the place of the registry's folders in
    certs.d; its files are those of containers-certs.d(5).  ``username`` and
    ``password`` are for all repositories of the registry, before all other
    logins, and for nobody else.  ``mirrors``, each ``host[:port]`` with maybe a path
    before a repository's name, are asked before the registry, in this order.

    ``requests_at_once`` is the most of requests whose answers have not ended,
    ``requests_per_minute`` that of requests in any 60 seconds, and
    ``bytes_per_second`` that of blobs, all of them together, on average.

    Raises ConfigurationError for values that cannot work.
    """

    insecure: bool | None = None
    certs_dir: Path | None = None
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    mirrors: tuple[str, ...] = ()
    requests_at_once: int = 0
    requests_per_minute: int = 0
    bytes_per_second: int = 0

    def __post_init__(self) -> None:
        if (self.username is None) != (self.password is None):
            raise errors.ConfigurationError("a user and a password of a registry belong together")
        for limit in ("requests_at_once", "requests_per_minute", "bytes_per_second"):
            if getattr(self, limit) < 0:
                raise errors.ConfigurationError(f"{limit} must not be negative")
        for mirror in self.mirrors:
            _check_mirror(mirror)


def _check_mirror(mirror: str) -> None:
    address, slash, path = mirror.partition("/")
    try:
        if slash:
            RepositoryName(path)
    except errors.InvalidReference:
        address = ""
    if not is_address(address):
        raise errors.ConfigurationError(
            f"not a mirror, host[:port] with maybe a path and no https://: {shown(mirror)}"
        )
