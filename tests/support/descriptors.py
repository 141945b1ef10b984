# SPDX-License-Identifier: Apache-2.0
"""The files that this process has open, for tests that none is left open.

Only new ones count: threads of earlier tests may close files of their own meanwhile.
"""

from __future__ import annotations

import contextlib
import os


def descriptors() -> set[tuple[str, str]]:
    """Return the open files, each with what it leads to."""
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError):  # that of the listing
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))  # noqa: PTH115
    return found
