# SPDX-License-Identifier: Apache-2.0
"""System calls of a command with all its threads and processes, counted by strace."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measurement import measure

GROUPS = {
    "opens": {"open", "openat", "openat2", "creat"},
    "flushes": {"fsync", "fdatasync", "syncfs", "sync"},
    "locks": {"flock", "fcntl"},
    "unlinks": {"unlink", "unlinkat", "rmdir"},
    "renames": {"rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"},
    "folders": {"mkdir", "mkdirat"},
}
"""The kinds of calls that are shown, each with the names that it has in Linux."""


def counted(command: Sequence[object], folder: Path) -> collections.Counter[str]:
    """Run a command under strace to its end; return how often it has made each call."""
    file = folder / "calls"
    measure(["strace", "-f", "-c", "-o", file, *command], folder)
    return parsed(file.read_text())


def parsed(summary: str) -> collections.Counter[str]:
    """Return the counts of strace's table, whose last column is the name of the call.

    The fourth column is the count; a column of errors may follow.
    """
    counts: collections.Counter[str] = collections.Counter()
    for line in summary.splitlines():
        words = line.split()
        if len(words) >= 5 and words[3].isdigit() and words[-1] != "total":
            counts[words[-1]] += int(words[3])
    return counts


def grouped(counts: Mapping[str, int], images: int) -> dict[str, float]:
    """Return the calls for each image: of each group, and all of them as ``calls``."""
    groups = {
        group: sum(counts.get(name, 0) for name in names) / images
        for group, names in GROUPS.items()
    }
    return {**groups, "calls": sum(counts.values()) / images}
