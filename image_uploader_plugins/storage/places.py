# SPDX-License-Identifier: Apache-2.0
"""Where a storage keeps what is its own, and the temporary names that it gives elsewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath


@dataclasses.dataclass(frozen=True)
class Places:
    """The folders of a storage's own, below ``state``, which is private: a name at the top."""

    state: PurePosixPath

    @property
    def staging(self) -> PurePosixPath:
        """The folder of temporary files, which are complete when they leave it."""
        return self.state / "staging"

    @property
    def locks(self) -> PurePosixPath:
        """The folder of lock files."""
        return self.state / "locks"

    def is_private(self, path: PurePosixPath) -> bool:
        """Return whether a path is the state folder or is in it: only the owner may enter."""
        return path.parts[:1] == self.state.parts


def beside(path: PurePosixPath, name: str) -> PurePosixPath:
    """Return a temporary name in the folder of ``path``, where another file system begins."""
    return path.with_name(f".{name}")


def is_temporary(name: str) -> bool:
    """Return whether a name is one of beside()'s: a dot and 32 hexadecimal digits."""
    return re.fullmatch(r"\.[0-9a-f]{32}", name) is not None
