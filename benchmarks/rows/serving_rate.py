# SPDX-License-Identifier: Apache-2.0
"""Pulls from a tree behind several web servers, from docker-registry, and of plain files."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import data, load, programs, servers
from benchmarks.copiers import Copiers
from benchmarks.data import Pushed
from benchmarks.measurement import Contender, MeasurementError
from benchmarks.results import Case, Figures, Row
from benchmarks.servers import Server
from benchmarks.workshop import Workshop
from image_uploader_plugins import media_types

_BASE = "docker-registry"
_PLAIN = "nginx, plain file"
_APACHE_PLAIN = "Apache, plain file"
_PLAIN_FILES = (_PLAIN, _APACHE_PLAIN)
_TAGS = tuple(f"v{number}" for number in range(20))
_SMALL, _MEDIUM = 700 * data.KB, 1000 * data.KB
_HEADERS = {"Accept": f"{media_types.DOCKER_MANIFEST}, {media_types.DOCKER_LIST}"}
_LIST = 200  # bytes, about as many as a list has
_LARGE = 50 * data.MB  # bytes from which there are few answers, and their rate says little


_Run = Callable[[Path, Path], contextlib.AbstractContextManager[Server]]


@dataclasses.dataclass(frozen=True)
class _Pull:
    """Something to ask for: its path in a registry, and its name among the plain files.

    Registries write lists each in their own way, so these have no ``size``.
    """

    title: str
    path: str
    file: str
    size: int = 0

    @property
    def metric(self) -> str:
        """Return by what servers are compared."""
        return "throughput" if self.size >= _LARGE else "rate"

    @property
    def more(self) -> tuple[str, ...]:
        """Return what else is shown."""
        return ("memory",) if self.size >= _LARGE else ("p50", "p99", "memory")


@dataclasses.dataclass(frozen=True)
class _Running:
    """A server by the name that is shown, or what is missing for it."""

    name: str
    server: Server | None
    missing: str = ""


def measured(workshop: Workshop) -> Row:
    """Measure each pull with each number of connections; all servers run all the time."""
    images = workshop.push(_plan()) + workshop.large_layer(workshop.settings.blob)
    root = _uploaded(workshop, images)
    pulls = _pulls(images, root)
    plain = _plain_files(workshop.bench.new_folder(), pulls, root)
    with contextlib.ExitStack() as stack:
        running = list(_started(workshop, stack, root, plain))
        cases = [
            _case(workshop, pull, connections, running)
            for pull in pulls
            for connections in workshop.settings.connections
        ]
    notes = [
        "wrk with one thread asks, over connections that are kept. No server logs requests. "
        "Memory is that of all processes of a server, shared pages counted once.",
    ]
    return Row("serve", "Serving", cases, notes)


def _plan() -> data.Plan:
    layers = (data.Layer("served-700", _SMALL), data.Layer("served-1000", _MEDIUM))
    return data.Plan("served/app", layers, _TAGS)


def _uploaded(workshop: Workshop, images: list[Pushed]) -> Path:
    """Return the root of a new tree with the images.

    With the system's own temporary folder it is as deep as the default root: nginx
    follows the link of a tag from "/" on.
    """
    folder = workshop.bench.new_folder()
    Copiers(workshop.source.address, images).run_upload(folder)
    return (folder / "tree").rename(workshop.bench.folder / "image-serve")


def _pulls(images: list[Pushed], root: Path) -> list[_Pull]:
    app, large = images[0], images[-1]
    folder = root / "v2" / app.name
    manifest = (folder / "manifests" / app.digest / "index.json").stat().st_size
    base = f"/v2/{app.name}"
    _, small, medium = app.blobs
    _, largest = large.blobs
    return [
        _Pull("Manifest by tag", f"{base}/manifests/{app.tag}", "manifest", manifest),
        _Pull("Manifest by digest", f"{base}/manifests/{app.digest}", "manifest", manifest),
        _Pull("List of tags", f"{base}/tags/list", "list"),
        _Pull("Blob of 700 kB", f"{base}/blobs/{small.digest}", "small", small.size),
        _Pull("Blob of 1 MB", f"{base}/blobs/{medium.digest}", "medium", medium.size),
        _Pull(
            f"Blob of {largest.size // data.MB} MB",
            f"/v2/{large.name}/blobs/{largest.digest}",
            "large",
            largest.size,
        ),
    ]


def _plain_files(folder: Path, pulls: list[_Pull], root: Path) -> Path:
    """Write files of the pulls' sizes, the blobs as links to the tree's."""
    for pull in pulls:
        target = folder / pull.file
        if pull.file not in ("manifest", "list"):
            found = next((root / pull.path[1:]).parent.glob(f"{Path(pull.path).name}*"))
            target.hardlink_to(found)
        elif not target.exists():
            target.write_bytes(bytes(pull.size or _LIST))
    return folder


def _started(
    workshop: Workshop, stack: contextlib.ExitStack, root: Path, plain: Path
) -> Iterator[_Running]:
    """Start all servers that are installed."""
    kinds: dict[str, tuple[_Run, Path, tuple[str, ...]]] = {
        "nginx with a tree": (servers.nginx, root, ("nginx", "wrk")),
        "Apache with a tree": (servers.apache, root, ("apache2", "wrk")),
        "image-uploader serve": (servers.embedded, root, ("wrk",)),
        _PLAIN: (servers.nginx_plain, plain, ("nginx", "wrk")),
        _APACHE_PLAIN: (servers.apache_plain, plain, ("apache2", "wrk")),
    }
    for name, (run, folder, wanted) in kinds.items():
        missing = programs.missing(*wanted)
        if missing:
            yield _Running(name, None, missing)
        else:
            yield _Running(name, stack.enter_context(run(workshop.bench.new_folder(), folder)))
    yield _Running(_BASE, workshop.source, programs.missing("wrk"))


def _case(workshop: Workshop, pull: _Pull, connections: int, running: list[_Running]) -> Case:
    settings = workshop.settings
    seconds = settings.large_load_seconds if pull.size >= _LARGE else settings.load_seconds
    contenders = [_contender(one, pull, connections, seconds) for one in running]
    title = f"{pull.title}, {connections} connections"
    is_charted = connections == max(workshop.settings.connections)
    case = Case(title, _BASE, pull.metric, pull.more, _PLAIN, is_charted)
    return workshop.bench.compare(case, contenders, workshop.settings.load_runs)


def _contender(one: _Running, pull: _Pull, connections: int, seconds: int) -> Contender:
    path = f"/{pull.file}" if one.name in _PLAIN_FILES else pull.path

    def run(folder: Path) -> Figures:
        if one.server is None:
            raise MeasurementError(one.missing)
        load.check(one.server, path, _HEADERS, pull.size)
        return load.put_on(one.server, path, _HEADERS, connections, seconds, folder)

    is_ours = one.name not in (*_PLAIN_FILES, _BASE)
    return Contender(one.name, run, one.missing, is_ours=is_ours)
