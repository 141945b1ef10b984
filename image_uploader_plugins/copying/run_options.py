# SPDX-License-Identifier: Apache-2.0
"""The options of a run: how it copies its images."""

from __future__ import annotations

import dataclasses

from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.sources.settings import Settings


@dataclasses.dataclass(frozen=True)
class CopyOptions:
    """The options of a run that copies images.

    With ``check_present`` what the driver holds is read before it counts;
    ``settings`` say how registries are asked; with ``signatures`` what signs
    and describes images comes along, of all or just of ``artifact_types``;
    with ``foreign_layers`` those that clients would get elsewhere do, too;
    with ``full_names`` names in the target begin with the registry.  With
    ``platforms`` an index is copied with its digest and, of its images, just
    those for these platforms.
    """

    check_present: bool = False
    settings: Settings = dataclasses.field(default_factory=Settings)
    signatures: bool = True
    foreign_layers: bool = False
    full_names: bool = False
    platforms: tuple[Platform, ...] | None = None
    artifact_types: tuple[str, ...] = ()
