# SPDX-License-Identifier: Apache-2.0
"""What an operator says of one registry: trust, login, mirrors and limits."""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class RegistryRules:
    """How one registry is asked; None and 0 are what holds for all registries.

    ``insecure`` as the option insecure_registries.  ``certs_dir`` has files as
    containers-certs.d(5) has them for one registry.  ``mirrors``, each ``host[:port]`` with
    maybe a path, are asked before the registry, in this order.  ``requests_at_once``,
    ``requests_per_minute`` and ``bytes_per_second`` are the most of each.
    """

    insecure: bool | None = None
    certs_dir: Path | None = None
    username: str | None = None
    password: str | None = dataclasses.field(default=None, repr=False)
    mirrors: tuple[str, ...] = ()
    requests_at_once: int = 0
    requests_per_minute: int = 0
    bytes_per_second: int = 0
