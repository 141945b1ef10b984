# SPDX-License-Identifier: Apache-2.0
"""The folders of a storage's own files, and temporary names in other folders."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NamedTuple


class Places(NamedTuple):
    """A storage's own folders, below ``state``, which is private and at the top of the root."""

    state: PurePosixPath

    @property
    def staging(self) -> PurePosixPath:
        """Return the folder of temporary files; they are complete when they leave it."""
        return self.state / "staging"

    @property
    def locks(self) -> PurePosixPath:
        """Return the folder of lock files."""
        return self.state / "locks"

    def is_private(self, path: PurePosixPath | str) -> bool:
        """Return whether a path is the state folder or is in it: only the owner may enter."""
        return f"{path}/".startswith(f"{self.state}/")


def beside(path: PurePosixPath, name: str) -> PurePosixPath:
    """Return a temporary name in the folder of ``path``, for a folder on another file system."""
    return path.with_name(f".{name}")


def is_temporary(name: str) -> bool:
    """Return whether beside() made a name: a dot and 32 hexadecimal digits."""
    return re.fullmatch(r"\.[0-9a-f]{32}", name) is not None
