"""The real programs that tests run."""

from __future__ import annotations

import os
import shutil

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
