# SPDX-License-Identifier: Apache-2.0
"""What pages tell their readers to type, typed; and what comes out, compared."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.registry import SourceRegistry
from tests.docs import console
from tests.support import commands, legacy, programs, trees
from tests.support.checkout import PROJECT

SERVE = "image-uploader serve"
SERVED_AT = "127.0.0.1:8787"


class Reader:
    """Someone with a home directory who does what a page says.

    ``elsewhere`` maps what the pages call something to where it is in the test.
    """

    def __init__(self, home: Path, background: contextlib.ExitStack) -> None:
        self.home = home
        self.elsewhere = {"/home/me": str(home)}
        self._background = background
        path = (str(home / "bin"), str(Path(commands.PROGRAM).parent), os.environ["PATH"])
        self._environment = {**os.environ, "HOME": str(home), "PATH": os.pathsep.join(path)}

    def let(self, **variables: str) -> None:
        """Set variables of the environment."""
        self._environment |= variables

    def program(self, name: str, script: str) -> None:
        """Put a program before all others of its name."""
        path = self.home / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def follow(self, page: str) -> int:
        """The number of commands that the page shows; each must do what it says."""
        count = 0
        for step in console.steps(page):
            if isinstance(step, console.File):
                (self.home / self._here(step.name)).write_text(self._here(step.text))
                continue
            line = self._here(step.line)
            got = self._start(line) if step.line == SERVE else self._run(line)
            if step.output is not None:
                wanted = self._here(step.output)
                assert console.agrees(wanted, got), f"{page}: {line}\n{got}"
                count += 1
        return count

    def _here(self, text: str) -> str:
        for name, place in self.elsewhere.items():
            text = text.replace(name, place)
        return text

    def _run(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.home,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}"
        return done.stdout

    def _start(self, line: str) -> str:
        """Run a server until the test ends; it chooses a port of its own."""
        process = subprocess.Popen(
            [*line.split(), "--port", "0"],
            cwd=self.home,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._background.enter_context(process)
        self._background.callback(process.terminate)
        assert process.stdout
        told = process.stdout.readline()
        self.elsewhere[SERVED_AT] = told.strip().rpartition("/")[2]
        return told


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    with contextlib.ExitStack() as background:
        yield Reader(tmp_path, background)


@pytest.fixture
def podman(reader: Reader) -> Iterator[None]:
    """podman with a storage of its own, under the name that pages call it by."""
    program = programs.require("podman")
    # podman takes no path of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="pull-") as folder:
        storage = f"--root {folder}/root --runroot {folder}/run --storage-driver vfs"
        reader.program("podman", f'exec {program} {storage} "$@"')
        yield
        script = str(reader.home / "bin" / "podman")
        subprocess.run([script, "rmi", "--all", "--force"], check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.usefixtures("podman")
def test_the_first_registry(reader: Reader) -> None:
    programs.require("curl")
    child = images.image("prometheus/node-exporter", None, [images.layer({"file": b"one"})])
    image = images.index("prometheus/node-exporter", "v1.3.1", [child])
    with web_server.serving(SourceRegistry([image])) as source:
        reader.elsewhere["quay.io/"] = f"{source}/"
        assert reader.follow("first.rst") == 8


@pytest.mark.slow
@pytest.mark.usefixtures("podman")
def test_mirroring(reader: Reader) -> None:
    indexes = [_of_three("library/nginx", "1.27")]
    indexes += [_of_three("prometheus/node-exporter", f"v1.{minor}.0") for minor in range(11)]
    with web_server.serving(SourceRegistry(indexes)) as source:
        reader.elsewhere |= {"quay.io/": f"{source}/", "docker.io/": f"{source}/"}
        assert reader.follow("mirroring.rst") == 10


@pytest.mark.slow
def test_nightly(reader: Reader) -> None:
    """systemd is a stand-in that runs the units' command lines; nobody gets the alerts."""
    reader.elsewhere |= {
        "/etc/": f"{reader.home}/etc/",
        "/var/lib/": f"{reader.home}/var-lib/",
        "/opt/image-uploader/share/image-uploader/": f"{PROJECT}/etc/",
    }
    units = reader.home / "etc" / "systemd" / "system"
    places = {"/etc/image-uploader/": f"{reader.home}/etc/image-uploader/"}
    reader.let(
        STATE=str(reader.home / "var-lib"), PYTHONPATH=str(PROJECT), UNIT_PLACES=json.dumps(places)
    )
    reader.program("systemctl", f'exec {sys.executable} -m tests.support.units {units} "$@"')
    reader.program("journalctl", f'exec tail --lines "$4" {units}/"$2".journal')
    for name in ("systemd-sysusers", "chown"):
        reader.program(name, "exit")
    reader.program("sendmail", "exec cat >/dev/null")
    wanted = [
        images.image("prometheus/node-exporter", tag, [images.layer({tag: tag.encode() * 99})])
        for tag in ("v1.8.1", "v1.9.0")
    ]
    with web_server.serving(SourceRegistry(wanted)) as source:
        reader.elsewhere["quay.io/"] = f"{source}/"
        assert reader.follow("nightly.rst") == 20
    assert trees.problems(reader.home / "var-lib" / "image-serve") == []


def _of_three(name: str, tag: str) -> images.Image:
    children = [
        images.image(name, None, [images.layer({arch: tag.encode()})], architecture=arch)
        for arch in ("amd64", "arm64", "s390x")
    ]
    return images.index(name, tag, children)


@pytest.mark.slow
def test_operating(reader: Reader) -> None:
    programs.require("tar")
    programs.require("rsync")
    for place in ("/var/lib", "/srv"):
        reader.elsewhere[place] = str(reader.home / place[1:].replace("/", "-"))
    (reader.home / "srv" / "backup").mkdir(parents=True)
    assert reader.follow("operating.rst") == 12
    assert trees.problems(reader.home / "var-lib" / "image-serve") == []


@pytest.mark.slow
def test_looking(reader: Reader) -> None:
    reader.elsewhere["/var/lib"] = str(reader.home / "var-lib")
    assert reader.follow("looking.rst") == 9
    assert trees.problems(reader.home / "var-lib" / "image-serve") == []


@pytest.mark.slow
def test_moving_a_tree(reader: Reader) -> None:
    root = reader.home / "image-serve"
    reader.elsewhere["/var/lib/image-serve"] = str(root)
    base = images.layer({"base": b"base" * 100})
    api = images.image("openstack/nova-api", "wallaby", [base, images.layer({"api": b"1"})])
    compute = images.image("openstack/nova-compute", "wallaby", [base, images.layer({"c": b"1"})])
    legacy.write_image(root, api, "wallaby")
    legacy.write_blobs(root, compute)
    legacy.write_manifest(root, compute)
    legacy.write_symlink_tag(root, compute, "wallaby")
    legacy.write_lists(root, {str(i.repository): ["wallaby"] for i in (api, compute)})
    (root / "v2" / "index.json").write_text("{}")
    assert reader.follow("moving.rst") == 2
    assert trees.problems(root) == []


@pytest.mark.slow
def test_upgrading(reader: Reader) -> None:
    programs.require("diff")
    reader.elsewhere["/var/lib"] = str(reader.home / "var-lib")
    assert reader.follow("upgrade.rst") == 2
    assert trees.problems(reader.home / "var-lib" / "image-serve") == []


@pytest.mark.slow
def test_helm_charts(reader: Reader) -> None:
    """Helm itself is not in Debian: its part is that of writing manifests for Kubernetes."""
    name = "jetstack/charts/cert-manager"
    everything = [_chart(name, "v1.18.2")]
    everything += [_chart("strimzi-helm/strimzi-kafka-operator", f"0.{n}.0") for n in (45, 46, 47)]
    everything += [
        images.image(f"jetstack/cert-manager-{part}", "v1.18.2", [images.layer({part: b"1"})])
        for part in ("controller", "cainjector")
    ]
    with web_server.serving(SourceRegistry(everything)) as source:
        reader.elsewhere["quay.io/"] = f"{source}/"
        _install_helm(
            reader.home / "bin",
            [
                f'      image: "{source}/jetstack/cert-manager-{part}:v1.18.2"'
                for part in ("controller", "cainjector", "controller")
            ],
        )
        assert reader.follow("helm.rst") == 4
    assert trees.problems(reader.home / "images") == []


def _install_helm(folder: Path, lines: Sequence[str]) -> None:
    folder.mkdir()
    script = folder / "helm"
    text = "\n".join(lines)
    script.write_text(f"#!/bin/sh\ncat <<'END'\nspec:\n  containers:\n{text}\nEND\n")
    script.chmod(0o755)


def _chart(name: str, tag: str) -> images.Image:
    return images.artifact(name, tag, "application/vnd.cncf.helm.config.v1+json", tag.encode())
