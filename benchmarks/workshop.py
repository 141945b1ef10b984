# SPDX-License-Identifier: Apache-2.0
"""What the rows share: the settings, the source registry with its images, and big trees."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import data, servers, template
from benchmarks.measurement import Bench, MeasurementError
from benchmarks.small_images import Shape


@dataclasses.dataclass(frozen=True)
class Settings:
    """How much is done; sizes in MB, times in seconds."""

    runs: int = 5
    images: int = 150
    divisor: int = 1  # of the sizes of the images' layers
    many: tuple[int, int] = (24, 20)  # layers, and the size of each
    large: tuple[int, ...] = (1000, 4000)
    resumed: int = 1000
    verified: int = 2000
    counts: tuple[int, ...] = (10, 1000, 20_000)
    fill_seconds: float = 60
    change_seconds: float = 8
    load_runs: int = 3
    load_seconds: int = 1
    large_load_seconds: int = 3  # for blobs of which few are sent in a second
    counted: int = 50  # images whose system calls are counted: strace makes them slow
    blob: int = 1000  # the largest that is served
    connections: tuple[int, ...] = (16, 64)


FULL = Settings()
QUICK = Settings(
    runs=1,
    images=30,
    divisor=10,
    many=(24, 2),
    large=(100,),
    resumed=100,
    verified=200,
    counts=(10, 100, 1000),
    fill_seconds=6,
    change_seconds=2,
    load_runs=1,
    large_load_seconds=1,
    counted=10,
    blob=100,
    connections=(16,),
)


@dataclasses.dataclass
class _Tree:
    """A tree of small images: how many it has, and the first number that none has yet."""

    root: Path
    held: int = 0
    next: int = 0


class Workshop:
    """Where rows are measured; what several of them need is made when it is first asked for.

    ``data_folder`` has the images, maybe from an earlier run; ``bench`` is where
    contenders run. ``stack`` ends the registry, and with it the workshop.
    """

    def __init__(
        self, settings: Settings, data_folder: Path, bench: Bench, stack: contextlib.ExitStack
    ) -> None:
        self.settings = settings
        self.bench = bench
        self._data = data_folder
        self._stack = stack
        self._trees: dict[Shape, _Tree] = {}

    @functools.cached_property
    def source(self) -> servers.Server:
        """The docker-registry that images are copied from."""
        folder = self._data / "registry"
        folder.mkdir(parents=True, exist_ok=True)
        return self._stack.enter_context(servers.docker_registry(folder))

    @functools.cached_property
    def _registry(self) -> data.Registry:
        return data.Registry(self.source.address, self._data / "images.json")

    def push(self, *plans: data.Plan) -> list[data.Pushed]:
        """Return the images of plans, which are in the source registry then."""
        return [image for plan in plans for image in self._registry.push(plan)]

    def deployment(self) -> list[data.Pushed]:
        """Return images as a deployment has them."""
        names = template.repositories(ask("benchmarks.template"), self.settings.images)
        return self.push(*data.deployment(names, self.settings.divisor))

    def large_layer(self, megabytes: int) -> list[data.Pushed]:
        """Return an image of one layer."""
        return self.push(data.layers(f"large-{megabytes}", 1, megabytes * data.MB))

    def small_tree(self, shape: Shape, count: int) -> tuple[Path, int]:
        """Return a tree of ``count`` small images, and how many it really has.

        They are fewer where the driver does not put as many in the time of the
        settings. One tree of a shape grows; it never shrinks.
        """
        tree = self._trees.setdefault(shape, _Tree(self.bench.new_folder() / "tree"))
        lacking = count - tree.held
        if lacking > 0:
            seconds = self.settings.fill_seconds
            tree.held += fill(tree.root, shape, tree.next, lacking, seconds)
            tree.next += lacking
        return tree.root, tree.held


def fill(root: Path, shape: Shape, start: int, count: int, seconds: float) -> int:
    """Add images to a tree, numbered from ``start``, in processes for all cores.

    Returns how many there was time for.
    """
    # One repository has one lock, and more processes would only wait.
    parts = (os.cpu_count() or 1) if shape is Shape.REPOSITORIES else 1
    borders = [start + count * part // parts for part in range(parts + 1)]
    processes = [
        _child("benchmarks.small_images", "fill", root, shape.value, first, last, seconds)
        for first, last in itertools.pairwise(borders)
    ]
    return sum(int(_answer(process)) for process in processes)


def ask(module: str, *arguments: object) -> Any:
    """Run a module as a program; return what it prints as JSON."""
    return _answer(_child(module, *arguments))


def _child(module: str, *arguments: object) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE)  # noqa: S603


def _answer(process: subprocess.Popen[bytes]) -> Any:
    output, _ = process.communicate()
    if process.returncode:
        raise MeasurementError(f"{process.args!r} ends with {process.returncode}")
    return json.loads(output)
