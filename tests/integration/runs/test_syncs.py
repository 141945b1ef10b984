# SPDX-License-Identifier: Apache-2.0
"""``sync`` from real registries into a tree, killed at any moment, and beside another one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image, corpus
from tests.integration.runs.conftest import DEADLINE, Cli, tagged
from tests.support import commands, odd_registry, programs, trees
from tests.support import registry as registries
from tests.support.odd_registry import Asked, OddRegistry, Reply

pytestmark = pytest.mark.slow

LOGIN = Login("robot", "secret word")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A docker-registry that wants a password."""
    folder = tmp_path_factory.mktemp("guarded")
    with registries.docker_registry(folder) as address:
        registries.push(address, corpus()[:2])
    command = [programs.require("htpasswd", "apache2-utils"), "-nbB"]
    line = subprocess.check_output([*command, LOGIN.username, LOGIN.password])
    (folder / "passwords").write_bytes(line)
    with registries.docker_registry(folder, passwords=folder / "passwords") as address:
        yield address


def test_a_list_of_several_registries(
    cli: Cli, source: str, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = cli.folder / "password"
    secret.write_text(LOGIN.password)
    wanted = {
        "registries": {guarded: {"username": LOGIN.username, "password_file": str(secret)}},
        "images": [
            *(f"{source}/{tagged(image)}" for image in corpus()[2:]),
            {"repository": f"{guarded}/base", "tags": "all", "mirror": True},
            {"repository": f"{guarded}/openstack/nova-api", "tags": {"glob": ["w*"]}},
        ],
    }
    file = cli.folder / "images.yaml"
    file.write_text(yaml.safe_dump(wanted))
    words = ("sync", "-f", file, "--report", cli.report_file)
    done = commands.without_tripleo_common(cli.config, *words)
    assert (done.returncode, done.stdout) == (0, "")
    assert LOGIN.password not in done.stderr + cli.report_file.read_text()
    assert not trees.problems(cli.root)
    assert trees.catalog(cli.root) == sorted(str(image.repository) for image in corpus())
    for image in corpus():
        assert trees.tags(cli.root, str(image.repository)) == [str(image.tag)]
        for part in image.walk():  # all platforms
            folder = cli.root / "v2" / str(part.repository) / "manifests" / str(part.digest)
            assert (folder / "index.json").read_bytes() == part.manifest.content
    assert cli.report()["summary"]["images"]["copied"] == len(corpus())
    before = trees.served(cli.root)
    done = commands.without_tripleo_common(cli.config, *words)
    assert done.returncode == 0
    assert cli.report()["summary"]["images"]["unchanged"] == len(corpus())
    assert cli.report()["summary"]["bytes_fetched"] == 0
    assert trees.served(cli.root) == before


def test_logins_are_those_of_podman_and_docker(
    cli: Cli, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = cli.folder / "auth.json"
    file.write_text(json.dumps({"auths": {guarded: {"auth": LOGIN.basic.split()[1]}}}))
    name = f"{guarded}/{tagged(corpus()[0])}"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(cli.folder / "none.json"))
    assert cli.run("sync", name).returncode == 1
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    assert cli.run("sync", name).returncode == 0


def test_a_list_means_what_it_means_to_skopeo(cli: Cli, tmp_path: Path) -> None:
    """What of it Debian's skopeo knows: images-by-semver came later."""
    skopeo = programs.require("skopeo")
    tags = {"one": ["1.0", "1.1", "2.0"], "two": ["1.0", "1.0-rc1", "dev"], "three": ["a", "b"]}
    layer = images.layer({"file": b"content"})
    pushed = [images.image(f"ns/{name}", tag, [layer]) for name in tags for tag in tags[name]]
    (tmp_path / "registry").mkdir()
    with registries.docker_registry(tmp_path / "registry") as address:
        registries.push(address, pushed)
        wanted = {
            "tls-verify": False,
            "images": {"ns/one": ["1.1", "2.0"], "ns/three": []},
            "images-by-tag-regex": {"ns/two": "^1\\.0.*"},
        }
        file = tmp_path / "sync.yaml"
        file.write_text(yaml.safe_dump({address: wanted}))
        copies = tmp_path / "copies"
        subprocess.run(
            [
                *(skopeo, "--insecure-policy", "sync", "--scoped"),
                *("--src", "yaml", "--dest", "dir", file, copies),
            ],
            check=True,
            capture_output=True,
        )
        assert cli.run("sync", "-f", file).returncode == 0
    theirs = {
        path.parent.relative_to(copies / address).as_posix()
        for path in copies.rglob("manifest.json")
    }
    ours = {
        f"{name}:{tag}" for name in trees.catalog(cli.root) for tag in trees.tags(cli.root, name)
    }
    assert ours == theirs
    assert len(ours) == 6


# -- killed


def content() -> list[Image]:
    """Images that share a layer; one is a list, and one is signed."""
    base = images.layer({"base": b"base" * 999})
    signed = images.image("ns/signed", "1", [base, images.layer({"s": b"signed"})], oci=True)
    tag = f"sha256-{signed.digest.encoded}.sig"
    children = [
        images.image("ns/list", None, [base, images.layer({"a": arch.encode()})], architecture=arch)
        for arch in ("amd64", "arm64")
    ]
    return [
        signed,
        images.image("ns/signed", tag, [images.layer({"sig": b"signature"})], oci=True),
        images.index("ns/list", "1", children),
    ]


def names(address: str) -> list[str]:
    return [f"{address}/ns/signed:1", f"{address}/ns/list:1"]


def whole(root: Path) -> dict[str, bytes | str]:
    """What clients get of a tree."""
    return {
        name: found for name, found in trees.served(root).items() if not name.endswith(".htaccess")
    }


@contextlib.contextmanager
def started(cli: Cli, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = commands.line(cli.config, "sync", *arguments)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Killer:
    """Kills a process at the first request for a path, before that is answered."""

    def __init__(self, part: str) -> None:
        self._part = part
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    def aim(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._ready.set()

    def __call__(self, asked: Asked) -> Reply | None:
        if self._part in asked.path:
            assert self._ready.wait(DEADLINE)
            with self._lock:
                if self._process:
                    self._process.send_signal(signal.SIGKILL)
                    self._process.wait(DEADLINE)
                self._process = None
        return None


SIGNED, SIGNATURE, LIST = content()
MOMENTS = {
    "a tag": "/ns/list/manifests/1",
    "a child": f"/manifests/{LIST.children[1].digest}",
    "a look for signatures": f"{SIGNED.digest.encoded}.att",
    "the layer of both": f"/blobs/{SIGNED.manifest.layers[0].digest}",
    "a layer": f"/blobs/{LIST.children[1].manifest.layers[1].digest}",
    "a signature": f"/blobs/{SIGNATURE.manifest.layers[0].digest}",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_it_leaves_what_the_next_run_completes(
    cli: Cli, tmp_path: Path, moment: str
) -> None:
    killer = Killer(MOMENTS[moment])
    registry = OddRegistry(content(), killer)
    with odd_registry.serving(registry) as address:
        with started(cli, *names(address)) as process:
            killer.aim(process)
            process.wait(DEADLINE)
            assert process.returncode == -signal.SIGKILL
        assert not list(trees.lying(cli.root))
        registry.hook = lambda _: None
        assert cli.run("sync", *names(address)).returncode == 0
    assert not trees.problems(cli.root)
    assert whole(cli.root) == whole_of_a_run(tmp_path / "expected")


def whole_of_a_run(folder: Path) -> dict[str, bytes | str]:
    folder.mkdir()
    config = commands.configuration(folder / "tree", folder)
    with odd_registry.serving(OddRegistry(content())) as address:
        assert commands.process(config, "sync", *names(address)).returncode == 0
    return whole(folder / "tree")


def test_two_at_once_leave_one_tree(cli: Cli, tmp_path: Path) -> None:
    """Both have asked for a manifest before either of them gets one."""
    both = threading.Barrier(2)
    registry = OddRegistry(content())
    waited: set[object] = set()
    lock = threading.Lock()

    def hook(asked: Asked) -> Reply | None:
        if asked.path.endswith("/ns/list/manifests/1"):
            with lock:
                waits = len(waited) < 2
                waited.add(len(waited))
            if waits:
                both.wait(DEADLINE)
        return None

    registry.hook = hook
    with (
        odd_registry.serving(registry) as address,
        started(cli, *names(address)) as one,
        started(cli, *names(address)) as other,
    ):
        ends = [process.communicate(timeout=DEADLINE) for process in (one, other)]
        assert [one.returncode, other.returncode] == [0, 0], ends
    assert not trees.problems(cli.root)
    assert whole(cli.root) == whole_of_a_run(tmp_path / "expected")


def test_interrupted_it_ends_in_order_and_tells(cli: Cli) -> None:
    registry = OddRegistry(content())
    came, gone = threading.Event(), threading.Event()

    def hook(asked: Asked) -> Reply | None:
        if "/blobs/" in asked.path:
            came.set()
            gone.wait(DEADLINE)
        return None

    registry.hook = hook
    with odd_registry.serving(registry) as address:
        with started(cli, *names(address), "--report", cli.report_file) as process:
            assert came.wait(DEADLINE)
            os.kill(process.pid, signal.SIGTERM)
            _, said = process.communicate(timeout=DEADLINE)
            gone.set()
        assert (process.returncode, said) == (143, "ERROR: interrupted by SIGTERM\n")
        found = cli.report()
        assert (found["command"], found["status"]) == ("sync", "interrupted")
        assert {(i["status"], i["why"]) for i in found["images"]} == {("failed", "interrupted")}
        registry.hook = lambda _: None
        assert cli.run("sync", *names(address)).returncode == 0
    assert not trees.problems(cli.root)
