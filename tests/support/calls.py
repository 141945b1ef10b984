# SPDX-License-Identifier: Apache-2.0
"""The system calls of a program that could change a file system, as strace saw them."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.support import programs

_OPENING = ("open", "openat", "openat2", "creat")
_CHANGING = (
    *("mkdir", "mkdirat", "mknod", "mknodat", "rmdir", "unlink", "unlinkat"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat"),
    *("truncate", "ftruncate", "fallocate", "utime", "utimes", "futimesat", "utimensat"),
    *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
    *("mount", "umount2", "chroot", "pivot_root"),
)
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (.*)")
_ARGUMENT = re.compile(r'(?:AT_FDCWD|\d+)<((?:[^<>\\]|\\.)*)>(\(deleted\))?|"((?:[^"\\]|\\.)*)"')


@dataclasses.dataclass(frozen=True)
class Call:
    """One call and the absolute paths that it would change; ``opens`` a file for writing."""

    name: str
    paths: tuple[str, ...]
    opens: bool
    line: str


def changing(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> tuple[list[Call], subprocess.CompletedProcess[str]]:
    """Run ``command`` to its end; its calls, in no order, and what it said."""
    lines, done = traced((*_OPENING, *_CHANGING), command, log, environment)
    return list(_parsed(iter(lines))), done


def traced(
    names: Sequence[str],
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> tuple[list[str], subprocess.CompletedProcess[str]]:
    """Run ``command`` to its end; a line for each of the calls, in no order, and what it said."""
    log.mkdir()
    strace = [
        *(programs.require("strace"), "-ff", "--seccomp-bpf", "-y", "-v", "-s", "65536"),
        *("-o", str(log / "calls")),
    ]
    # The question mark: a strace that does not know a call is no reason to fail.
    trace = ",".join(f"?{name}" for name in names)
    # What measures coverage writes files of its own, which are none of the program's.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [*strace, "-e", f"trace={trace}", *command],
        env={**ours, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert any(log.iterdir()), f"strace has seen nothing: {done.stderr[:300]}"
    return [line for path in sorted(log.iterdir()) for line in path.read_text().splitlines()], done


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-B", *arguments]


def _parsed(lines: Iterator[str]) -> Iterator[Call]:
    for line in lines:
        match = _CALL.match(line)
        if not match:
            # A signal, or the end of a process; no call is left out.
            assert line.startswith(("---", "+++")), line
            continue
        name, arguments, _ = match.groups()
        opens = name in _OPENING
        if opens and name != "creat" and not _WRITING.search(arguments):
            continue
        yield Call(name, tuple(_paths(name, arguments)), opens, line)


def _paths(name: str, arguments: str) -> Iterator[str]:
    folder: str | None = None
    if name in ("symlink", "symlinkat"):
        # Where a link leads is text, and changes nothing there.
        arguments = arguments[_ARGUMENT.match(arguments).end() :]  # type: ignore[union-attr]
    found = list(_ARGUMENT.finditer(arguments))
    for match in found:
        descriptor, _, text = match.groups()
        if text is None:
            folder = descriptor
            continue
        path = text.encode().decode("unicode_escape").encode("latin-1").decode()
        assert Path(path).is_absolute() or folder is not None, arguments
        yield os.path.normpath(Path(folder or "/") / path)
    if not any(match[3] is not None for match in found):
        assert folder is not None, arguments
        yield folder
