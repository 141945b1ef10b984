# SPDX-License-Identifier: Apache-2.0
"""The programs that are measured, with their versions, and the machine that they run on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

OURS = str(Path(sys.executable).with_name("image-uploader"))
"""The command of the environment that runs the benchmarks."""

NOT_INSTALLED = "not installed"
"""How the note begins of a contender that is not installed."""

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

_NUMBER = re.compile(r"\d+\.\d+[\w.+~-]*")

_PACKAGES = {"nginx": "nginx-light"}

_VERSIONS = {
    "skopeo": ("skopeo", "--version"),
    "docker-registry": ("docker-registry", "--version"),
    "nginx": ("nginx", "-v"),
    "Apache": ("apache2", "-v"),
    "curl": ("curl", "--version"),
    "wrk": ("wrk", "-v"),
    "strace": ("strace", "-V"),
    "coreutils": ("sha256sum", "--version"),
}


def path(name: str) -> str | None:
    """Return the path of a program, None if it is not installed."""
    return shutil.which(name, path=_PATH)


def missing(*names: str) -> str:
    """Return what to install for these programs, "" if all are there."""
    absent = [_PACKAGES.get(name, name) for name in names if not path(name)]
    return f"{NOT_INSTALLED}: apt-get install {' '.join(absent)}" if absent else ""


def machine(folder: Path) -> dict[str, Any]:
    """Describe the machine, and the disk that ``folder`` is on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "file system": _file_system(folder),
        "load before": os.getloadavg()[0],
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part, and of this checkout."""
    found = {"image-uploader-plugins": _own_version(), "Python": platform.python_version()}
    try:
        found["tripleo-common"] = importlib.metadata.version("tripleo-common")
    except importlib.metadata.PackageNotFoundError:
        found["tripleo-common"] = NOT_INSTALLED
    for name, (program, option) in _VERSIONS.items():
        found[name] = _number(program, option)
    return found


def _own_version() -> str:
    version = importlib.metadata.version("image-uploader-plugins")
    commit = _output("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    return f"{version} ({commit.strip()})" if commit else version


def _number(program: str, option: str) -> str:
    """Return the first version number that a program tells of itself."""
    found = path(program)
    number = _NUMBER.search(_output(found, option)) if found else None
    return number[0] if number else NOT_INSTALLED


def _output(*command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    # NOTE: wrk -v ends with 1.
    return done.stdout if done.returncode == 0 or "wrk" in command[0] else ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """Return the type of the file system with a folder, and its mount options."""
    found = "unknown"
    longest = -1
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted, kind, options, *_ = line.split()
        if folder.resolve().is_relative_to(mounted) and len(mounted) > longest:
            found, longest = f"{kind} ({options})", len(mounted)
    return found
