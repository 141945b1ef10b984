# SPDX-License-Identifier: Apache-2.0
"""The results of a verification."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import PurePosixPath

from image_uploader_plugins.storage import File


class Severity(enum.Enum):
    """What a finding means: a person is needed, space is taken, or neither."""

    DAMAGE = "damage"
    GARBAGE = "garbage"
    NOTE = "note"


class Kind(enum.Enum):
    """What was found: its name in JSON, and whether a person is needed for it.

    A person is needed where clients get something wrong or nothing, where
    others could change what clients get, and where that is not known.
    """

    CONTENT = "content", Severity.DAMAGE
    UNREAD = "unread", Severity.DAMAGE
    MISSING = "missing", Severity.DAMAGE
    SIZE = "size", Severity.DAMAGE
    VIEW = "view", Severity.DAMAGE
    ACCESS = "access", Severity.DAMAGE
    STRANGER = "stranger", Severity.DAMAGE
    UNNEEDED = "unneeded", Severity.GARBAGE
    UNFINISHED = "unfinished", Severity.GARBAGE
    TEMPORARY = "temporary", Severity.GARBAGE
    UNPOOLED = "unpooled", Severity.NOTE
    LINKED = "linked", Severity.NOTE
    STATE = "state", Severity.NOTE

    def __init__(self, word: str, severity: Severity) -> None:
        self.word = word
        self.severity = severity


class Remedy(enum.Enum):
    """The remedy of a finding: repair from the tree itself, fetch again, or look in person."""

    REPAIR = "repair"
    FETCH = "fetch"
    LOOK = "look"


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """A problem at ``path`` (relative to the root).

    ``images`` are the affected images, by the names that clients use;
    ``bytes_freed`` is what the disk gets back when garbage is removed.
    """

    path: PurePosixPath
    problem: str
    kind: Kind = dataclasses.field(compare=False)
    remedy: Remedy = dataclasses.field(compare=False)
    images: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    bytes_freed: int = dataclasses.field(default=0, compare=False)

    @property
    def severity(self) -> Severity:
        """Return whether a person is needed."""
        return self.kind.severity

    def __str__(self) -> str:
        images = f" ({', '.join(self.images)})" if self.images else ""
        return f"{self.path}: {self.problem}{images}"


@dataclasses.dataclass(frozen=True, order=True)
class Note:
    """A remark about ``path``, which is not a problem."""

    path: PurePosixPath
    text: str
    images: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    def __str__(self) -> str:
        images = f" ({', '.join(self.images)})" if self.images else ""
        return f"{self.path}: {self.text}{images}"


@dataclasses.dataclass
class Report:
    """The findings and notes, sorted, and counts of what was looked at; sizes in bytes."""

    findings: tuple[Finding, ...] = ()
    notes: tuple[Note, ...] = ()
    repositories: int = 0
    manifests: int = 0
    blobs: int = 0
    bytes_read: int = 0

    def damage(self) -> tuple[Finding, ...]:
        """Return the findings for which a person is needed."""
        return tuple(f for f in self.findings if f.severity is Severity.DAMAGE)

    def to_fetch(self) -> list[str]:
        """Return the images of which something must be fetched again."""
        lost = (f.images for f in self.findings if f.remedy is Remedy.FETCH)
        return sorted({image for images in lost for image in images})


def temporary(file: File) -> Finding:
    """Return the finding of a temporary file of a process that has ended."""
    problem = "a temporary file that was left behind"
    return Finding(file.path, problem, Kind.TEMPORARY, Remedy.REPAIR, bytes_freed=file.size)
