"""What an upload task asks for, read from what its author wrote.

The host's UploadTask takes a port for a tag and ``name@sha256:x`` for the
tag ``x``, so nothing it derives is used here.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import RepositoryName, Tag, split_digest

LOCAL = "containers-storage:"
_DEFAULT_TAG = "latest"  # the host's, for a name without any


@dataclasses.dataclass(frozen=True)
class Job:
    """One image to copy: ``reference`` of ``name`` at ``host`` becomes ``target:tag``.

    ``is_local`` images lie in containers-storage.  ``tag`` is None where the
    image was asked for by digest alone.  ``served_at`` is the registry that
    clients will pull the target from.
    """

    host: str
    name: RepositoryName
    reference: Tag | Digest
    served_at: str
    target: RepositoryName
    tag: Tag | None
    is_local: bool = False

    @classmethod
    def of(cls, task: Any) -> Job:
        """Read an UploadTask; raises InvalidReference."""
        text = f"{task.pull_source.rstrip('/')}/" if task.pull_source else ""
        text += task.image_name.removeprefix(LOCAL)
        text, digest = split_digest(text)
        host, _, path = text.partition("/")
        if not path:
            raise errors.InvalidReference(f"no registry in the image name {text!r:.300}")
        path, _, tag = path.partition(":")
        if not tag and not digest:
            tag = _DEFAULT_TAG
        name = RepositoryName(path)
        served_at, _, namespace = _without_user(task.push_destination).partition("/")
        return cls(
            host,
            name,
            digest or Tag(tag),
            served_at,
            RepositoryName(f"{namespace}/{name}") if namespace else name,
            Tag(tag + (task.append_tag or "")) if tag else None,
            task.image_name.startswith(LOCAL),
        )

    @property
    def source(self) -> str:
        """The image as any tool would name it."""
        separator = "@" if isinstance(self.reference, Digest) else ":"
        return f"{self.host}/{self.name}{separator}{self.reference}"

    @property
    def served(self) -> str:
        """The target as clients will name it."""
        name = f"{self.served_at}/{self.target}"
        return f"{name}:{self.tag}" if self.tag else f"{name}@{self.reference}"


def _without_user(destination: str) -> str:
    """Return a push_destination as it is; raises InvalidReference where a user stands in it."""
    if "@" in destination:
        raise errors.InvalidReference("a user and a password do not belong into push_destination")
    return destination.rstrip("/")
