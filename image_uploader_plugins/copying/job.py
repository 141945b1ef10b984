# SPDX-License-Identifier: Apache-2.0
"""The work of an upload task, read from the values that its author wrote.

tripleo-common's UploadTask takes a port for a tag and ``name@sha256:x`` for the
tag ``x``, so nothing it derives is used here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sources.image_name import ImageName, prefix_of

LOCAL = "containers-storage:"


class Job(NamedTuple):
    """One image to copy: ``reference`` of ``name`` at ``host`` becomes ``target:tag``.

    ``is_local`` images lie in containers-storage.  ``tag`` is None where the
    image was asked for by digest alone.  ``served_at`` is the registry that
    clients will pull the target from, "" where nobody says.
    """

    host: str
    name: RepositoryName
    reference: Tag | Digest
    served_at: str
    target: RepositoryName
    tag: Tag | None
    is_local: bool = False

    @classmethod
    def of(cls, task: Any, *, full_names: bool = False) -> Job:
        """Read an UploadTask; raises InvalidReference.

        With ``full_names`` the target begins with the registry.
        """
        text = f"{task.pull_source.rstrip('/')}/" if task.pull_source else ""
        text += task.image_name.removeprefix(LOCAL)
        name = ImageName.parse(text)
        served_at, _, namespace = _without_user(task.push_destination).partition("/")
        target = full_name(name.registry, name.repository) if full_names else name.repository
        tag = Tag(f"{name.tag}{task.append_tag or ''}") if name.tag else None
        return cls(
            name.registry,
            name.repository,
            name.reference,
            served_at,
            RepositoryName(f"{namespace}/{target}") if namespace else target,
            tag,
            task.image_name.startswith(LOCAL),
        )

    @property
    def source(self) -> str:
        """Return the image as any tool would name it."""
        separator = "@" if isinstance(self.reference, Digest) else ":"
        return f"{self.host}/{self.name}{separator}{self.reference}"

    @property
    def served(self) -> str:
        """Return the target as clients will name it."""
        name = f"{self.served_at}/{self.target}" if self.served_at else str(self.target)
        return f"{name}:{self.tag}" if self.tag else f"{name}@{self.reference}"


def _without_user(destination: str) -> str:
    """Return a push_destination as it is; raises InvalidReference where a user stands in it."""
    if "@" in destination:
        raise errors.InvalidReference("a user and a password do not belong into push_destination")
    return destination.rstrip("/")


def full_name(registry: str, repository: RepositoryName) -> RepositoryName:
    """Return a repository's name that begins with its registry; raises InvalidReference."""
    return RepositoryName(f"{prefix_of(registry)}/{repository}")
