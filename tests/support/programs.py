# SPDX-License-Identifier: Apache-2.0
"""The real programs that tests run."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def require(name: str, package: str | None = None) -> str:
    """The path of program ``name``.

    Where it is missing the test is skipped and says what to install; in CI,
    which installs bindep.txt, that is a failure.
    """
    path = shutil.which(name, path=_PATH)
    if path:
        return path
    message = f"{name} is missing: apt-get install {package or name}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def credential_helper(folder: Path, name: str, script: str) -> None:
    """Write docker-credential-NAME, a shell script, into a folder of PATH."""
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@contextlib.contextmanager
def daemon(
    process: subprocess.Popen[bytes], ask: Callable[[], object], log: Path, seconds: float
) -> Iterator[None]:
    """A daemon from when ``ask`` no longer fails, for ``seconds`` at most, until the block ends."""
    try:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(AssertionError):
                ask()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} does not start: {log.read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()
