# SPDX-License-Identifier: Apache-2.0
"""The installed command, a real registry to copy from, and one that never finishes."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_uploader_plugins.copying import engine
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.images import Image, corpus
from image_uploader_plugins.testing.registry import SourceRegistry
from image_uploader_plugins.testing.web_server import Answer
from tests.support import commands
from tests.support import registry as registries

SERVED_AT = "192.0.2.1:8787"  # RFC 5737: nothing answers there
DEADLINE = 60  # seconds


class Cli:
    """The command on the tree at ``root``, with files in ``folder``."""

    def __init__(self, root: Path, folder: Path, config: Path) -> None:
        self.root = root
        self.folder = folder
        self.config = config
        self.report_file = folder / "report.json"

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return commands.process(self.config, *arguments)

    def upload(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.run("upload", *arguments, "--report", self.report_file)

    def report(self) -> dict[str, Any]:
        fields: dict[str, Any] = json.loads(self.report_file.read_bytes())
        return fields

    def images(self, source: str, *names: Image | str, **more: Any) -> Path:
        """A file that lists images of ``source``."""
        path = self.folder / "images.yaml"
        entries = [
            {
                "imagename": f"{source}/{name if isinstance(name, str) else tagged(name)}",
                "push_destination": SERVED_AT,
                **more,
            }
            for name in names
        ]
        path.write_text(yaml.safe_dump({"container_images": entries}))
        return path


def tagged(image: Image) -> str:
    return f"{image.repository}:{image.tag}"


def by_name(name: str) -> Image:
    return next(image for image in corpus() if image.repository.value == name)


class Endless(SourceRegistry):
    """Images of one layer each that begins and then waits or, ``dripping``, goes on and on.

    ``released`` ends them all.
    """

    COUNT = engine.IMAGES + 4  # more than are copied at once: some are never begun
    SIZE = 2**40
    CHUNK = 2**20

    def __init__(self) -> None:
        super().__init__([])
        self.dripping = False
        self.released = threading.Event()
        self.names = [f"big/n{n}:1.0" for n in range(self.COUNT)]
        self._layers = {self._add(n) for n in range(self.COUNT)}

    def _add(self, number: int) -> str:
        image = images.image(f"big/n{number}", "1.0", [images.layer({str(number): b"content"})])
        self.add(image)
        fields = json.loads(image.manifest.content)
        fields["layers"][0]["size"] = self.SIZE
        promised = Manifest.parse(json.dumps(fields).encode())
        self.manifests[image.repository.value, "1.0"] = promised
        return str(image.manifest.layers[0].digest)

    def blob(self, name: str, digest: str) -> Answer:
        if digest not in self._layers:
            return super().blob(name, digest)
        return Answer(200, {"Content-Length": str(self.SIZE)}, self._body())

    def _body(self) -> Iterator[bytes]:
        chunk = bytes(self.CHUNK)
        yield chunk
        while not self.released.wait(0.1 if self.dripping else DEADLINE):
            yield chunk


@pytest.fixture
def cli(root: Path, tmp_path: Path, config: Path) -> Cli:
    return Cli(root, tmp_path, config)


@pytest.fixture(scope="package")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.docker_registry(tmp_path_factory.mktemp("registry")) as address:
        registries.push(address, corpus())
        yield address


@pytest.fixture
def endless() -> Endless:
    return Endless()


@pytest.fixture
def endless_source(endless: Endless) -> Iterator[str]:
    with web_server.serving(endless) as address:
        yield address
        endless.released.set()
