"""File systems of a test's own, small and real."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import programs


@contextlib.contextmanager
def tmpfs(folder: Path, *options: str) -> Iterator[Path]:
    """A tmpfs mounted on ``folder`` (made where it is missing), with mount(8)'s ``options``.

    Where mounting is refused the test is skipped and says what it takes; in
    CI that is a failure.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [programs.require("mount"), "-t", "tmpfs"]
    command += [f"-o{','.join(options)}"] if options else []
    done = subprocess.run([*command, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        message = f"cannot mount a tmpfs (it takes root, or CAP_SYS_ADMIN): {done.stderr.strip()}"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    try:
        yield folder
    finally:
        subprocess.run([programs.require("umount"), "--lazy", str(folder)], check=True)


def remount(folder: Path, *options: str) -> None:
    command = [programs.require("mount"), "-o", ",".join(("remount", *options)), str(folder)]
    subprocess.run(command, check=True)
