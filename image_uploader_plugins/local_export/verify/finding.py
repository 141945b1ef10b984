# SPDX-License-Identifier: Apache-2.0
"""The results of a verification."""

from __future__ import annotations

import dataclasses
import enum
from pathlib import PurePosixPath


class Remedy(enum.Enum):
    """The remedy of a finding: repair from the tree itself, fetch again, or look in person."""

    REPAIR = "repair"
    FETCH = "fetch"
    LOOK = "look"


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """A problem at ``path`` (relative to the root).

    ``images`` are the affected images, by the names that clients use.
    """

    path: PurePosixPath
    problem: str
    remedy: Remedy = dataclasses.field(compare=False)
    images: tuple[str, ...] = dataclasses.field(default=(), compare=False)

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

    def to_fetch(self) -> list[str]:
        """Return the images of which something must be fetched again."""
        lost = (f.images for f in self.findings if f.remedy is Remedy.FETCH)
        return sorted({image for images in lost for image in images})
