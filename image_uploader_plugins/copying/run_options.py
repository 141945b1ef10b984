# SPDX-License-Identifier: Apache-2.0
"""The options of a run: how it copies its images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from image_uploader_plugins import errors
from image_uploader_plugins.manifest import Platform, is_media_type
from image_uploader_plugins.sources.settings import Settings
from image_uploader_plugins.text import shown

_ALL = "all"


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


def read_platforms(texts: Iterable[str]) -> tuple[Platform, ...] | None:
    """Return the platforms that texts name, each one or several with commas; None for ``all``.

    Raises InvalidReference.
    """
    names = list(_names(texts))
    if names == [_ALL]:
        return None
    if _ALL in names:
        raise errors.InvalidReference(f"{_ALL} is for every platform, and no other goes with it")
    return tuple(dict.fromkeys(map(Platform.parse, names)))


def read_artifact_types(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the types of artifacts that texts name, each one or several with commas.

    Raises InvalidReference.
    """
    names = tuple(dict.fromkeys(_names(texts)))
    for name in names:
        if not is_media_type(name):
            raise errors.InvalidReference(
                f"not a type of artifacts: {shown(name)}; one is a media type, as "
                "application/vnd.dev.sigstore.bundle.v0.3+json"
            )
    return names


def _names(texts: Iterable[str]) -> Iterator[str]:
    return (name.strip() for text in texts for name in text.split(","))
