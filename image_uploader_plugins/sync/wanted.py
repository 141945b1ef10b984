# SPDX-License-Identifier: Apache-2.0
"""What lists of images say: repositories, which of their tags, and how these are copied."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sources.registry_rules import RegistryRules


@dataclasses.dataclass(frozen=True)
class TagChoice:
    """Which tags of a repository are wanted.

    ``names`` are wanted by name, and each has to be there.  All others come
    from the source's list of tags: those that fit one of ``globs`` or
    ``regexes`` (as a whole), or the range of versions ``semver``, or every one
    with ``all``.  Without these, ``newest`` chooses from all tags.  ``exclude``
    are globs of tags that are left out.  Of what the list gave, ``newest``
    keeps as many, by version.
    """

    names: tuple[Tag, ...] = ()
    globs: tuple[str, ...] = ()
    regexes: tuple[str, ...] = ()
    semver: str | None = None
    all: bool = False
    newest: int | None = None
    exclude: tuple[str, ...] = ()

    @property
    def needs_list(self) -> bool:
        """Return whether the source's list of tags has to be read."""
        return bool(self.globs or self.regexes or self.semver or self.all or self.newest)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One repository of a list.

    ``where`` is the place that says so, ``FILE:LINE``.  ``pins`` are tags that
    have to lead to a digest, those of references such as ``nginx:1.27@sha256:...``;
    ``digests`` are wanted without a tag.  ``target`` is the repository's name in the
    target, None for the source's (with the registry in front where ``full_names``).
    ``platforms`` are those of an index that come; None for all.  ``referrers``
    says whether what signs and describes images comes along, and
    ``artifact_types`` which of it, none of them for all.  With ``mirror``, tags that are not
    wanted, or have gone from the source, are removed from the target.  None
    is what the command line says.
    """

    where: str
    registry: str
    repository: RepositoryName
    tags: TagChoice = TagChoice()
    pins: Mapping[Tag, Digest] = dataclasses.field(default_factory=dict)
    digests: tuple[Digest, ...] = ()
    target: RepositoryName | None = None
    platforms: tuple[Platform, ...] | None = None
    referrers: bool | None = None
    artifact_types: tuple[str, ...] = ()
    full_names: bool | None = None
    mirror: bool = False

    @property
    def source(self) -> str:
        """Return the repository with its registry, as any tool would name it."""
        return f"{self.registry}/{self.repository}"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """All that some lists say: entries in their order, and rules by the names of registries."""

    entries: tuple[Entry, ...]
    registries: Mapping[str, RegistryRules] = dataclasses.field(default_factory=dict)
