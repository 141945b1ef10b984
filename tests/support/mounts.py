# SPDX-License-Identifier: Apache-2.0
"""File systems of a test's own, small and real."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import programs


@contextlib.contextmanager
def tmpfs(folder: Path, *options: str) -> Iterator[Path]:
    """A tmpfs mounted on ``folder`` (made where it is missing), with mount(8)'s ``options``.

    Where mounting is refused the test is skipped and says what it takes; in
    CI that is a failure.
    """
    more = [f"-o{','.join(options)}"] if options else []
    with _mounted([programs.require("mount"), "-t", "tmpfs", *more, "tmpfs"], folder):
        yield folder


@contextlib.contextmanager
def bound(source: Path, folder: Path) -> Iterator[Path]:
    """A folder that is also seen at another place, as containers see theirs."""
    with _mounted([programs.require("mount"), "--bind", str(source)], folder):
        yield folder


@contextlib.contextmanager
def overlay(folder: Path, work: Path) -> Iterator[Path]:
    """An overlay with nothing below it; ``work`` is a folder for its layers."""
    layers = {name: work / name for name in ("lower", "upper", "work")}
    for layer in layers.values():
        layer.mkdir(parents=True)
    options = f"-olowerdir={layers['lower']},upperdir={layers['upper']},workdir={layers['work']}"
    with _mounted([programs.require("mount"), "-t", "overlay", options, "overlay"], folder):
        yield folder


@contextlib.contextmanager
def disk(folder: Path, image: Path, kind: str = "ext4", size: int = 16) -> Iterator[Path]:
    """A new file system on a disk of ``size`` MiB, which is the sparse file ``image``."""
    with image.open("wb") as file:
        file.truncate(size * 1024 * 1024)
    make = [programs.require(f"mkfs.{kind}"), "-q", str(image)]
    subprocess.run(make, check=True, capture_output=True)
    command = [programs.require("mount"), "-t", kind, "-o", "loop", str(image)]
    with _mounted(command, folder):
        yield folder


@contextlib.contextmanager
def fuse(source: Path, folder: Path, *options: str) -> Iterator[Path]:
    """A folder seen through FUSE, by bindfs; ``options`` are bindfs' own."""
    if not Path("/dev/fuse").exists():
        _give_up("no /dev/fuse")
    with _mounted([programs.require("bindfs"), *options, str(source)], folder):
        yield folder


@contextlib.contextmanager
def _mounted(command: list[str], folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        _give_up(f"cannot mount (it takes root, or CAP_SYS_ADMIN): {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run([programs.require("umount"), "--lazy", str(folder)], check=True)


def _give_up(message: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def remount(folder: Path, *options: str) -> None:
    command = [programs.require("mount"), "-o", ",".join(("remount", *options)), str(folder)]
    subprocess.run(command, check=True)
