# SPDX-License-Identifier: Apache-2.0
"""Real clients of registries, each with a storage of its own: fixtures, and what they pulled."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_uploader_plugins.testing.images import Image
from tests.support import programs
from tests.support.content import everything

_DEADLINE = 60  # seconds
_NO_NETWORK = ("--iptables=false", "--ip6tables=false", "--bridge=none")

Run = Callable[..., str]


def by_name(name: str) -> Image:
    return next(image for image in everything() if image.repository.value == name)


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def skopeo() -> str:
    return programs.require("skopeo")


def blobs_of(image: Image) -> set[str]:
    """The hex of everything that an image consists of."""
    return {digest.encoded for part in image.walk() for digest in (*part.blobs, part.digest)}


def copied(folder: Path) -> set[str]:
    """The hex of what lies in a ``dir:`` copy, from the bytes themselves."""
    files = [path for path in folder.iterdir() if path.name != "version"]
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(params=["podman", "buildah"])
def puller(request: pytest.FixtureRequest) -> Iterator[Run]:
    """podman or buildah with a storage of its own."""
    program = programs.require(request.param)
    # podman takes no path of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="pull-") as folder:
        storage = ("--root", f"{folder}/root", "--runroot", f"{folder}/run")

        def command(*arguments: object) -> str:
            return run(program, *storage, "--storage-driver", "vfs", *arguments)

        yield command
        command("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def ctr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """containerd's client, with a daemon of its own."""
    program = programs.require("ctr", "containerd")
    daemon = programs.require("containerd")
    folder = tmp_path_factory.mktemp("containerd")
    config = folder / "config.toml"
    # Nothing but content is needed; the rest asks for a kernel this may not be.
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs", '
        '"io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", '
        '"io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]\n'
        f'[grpc]\naddress = "{folder}/socket"\n'
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([daemon, "--config", config], stdout=log, stderr=log)

    def command(*arguments: object) -> str:
        return run(program, "--address", folder / "socket", *arguments)

    with programs.daemon(process, lambda: command("version"), folder / "log", _DEADLINE):
        yield command


@pytest.fixture(scope="module")
def docker() -> Iterator[Run]:
    """Debian's client, with a daemon and a storage of its own."""
    daemon = programs.require("dockerd", "docker.io")
    client = "/usr/bin/docker"  # another may be first on the path
    if os.getuid() != 0:
        message = "dockerd takes root"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="docker-") as name:
        folder = Path(name)
        (folder / "daemon.json").write_text(json.dumps({"deprecated-key-path": f"{folder}/key"}))
        places = (
            "--config-file",
            folder / "daemon.json",
            "--data-root",
            folder / "data",
            "--exec-root",
            folder / "exec",
        )
        address = f"unix://{folder}/socket"
        command = [daemon, *places, "--storage-driver=vfs", *_NO_NETWORK, "--host", address]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(part) for part in (*command, "--pidfile", folder / "pid")],
                stdout=log,
                stderr=log,
            )

        def ask(*arguments: object) -> str:
            return run(client, "--host", address, *arguments, DOCKER_CONFIG=f"{folder}/config")

        with programs.daemon(process, lambda: ask("version"), folder / "log", _DEADLINE):
            yield ask


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """podman with a storage of its own."""
    program = programs.require("podman")
    if os.geteuid() != 0:
        pytest.skip("podman's storage is root's here")
    folder = tmp_path_factory.mktemp("podman")
    config = folder / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
    )

    def command(*arguments: object) -> str:
        return run(program, *arguments, CONTAINERS_STORAGE_CONF=str(config))

    return command
