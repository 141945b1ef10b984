# SPDX-License-Identifier: Apache-2.0
"""Settings for requests to registries.

Apart from what asks them: commands that ask none need no HTTP.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from image_uploader_plugins.pace import READ_TIMEOUT, Limits
from image_uploader_plugins.sources.keychain import Keychain
from image_uploader_plugins.sources.pauses import TOTAL
from image_uploader_plugins.sources.trust import Trust


@dataclasses.dataclass(frozen=True)
class Settings:
    """Say how registries are asked; times in seconds, ``mirrors`` from a registry to a URL."""

    keychain: Keychain = dataclasses.field(default_factory=Keychain)
    trust: Trust = dataclasses.field(default_factory=Trust)
    limits: Limits = dataclasses.field(default_factory=Limits)
    mirrors: Mapping[str, str] = dataclasses.field(default_factory=dict)
    read_timeout: float = READ_TIMEOUT
    longest_pause: float = TOTAL
