# SPDX-License-Identifier: Apache-2.0
"""``client-config --all``: what clients need for the registries that a tree has."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import trees
from tests.support.commands import Run

MIRROR = ("--mirror", "https://registry.example.com")
WORD = "s3cret"
FULL = ("docker.io/library/nginx", "quay.io/ns/app", "registry_5000/app")


@pytest.fixture
def tree(root: Path) -> Path:
    with LocalExportDriver(root) as driver:
        for name in (*FULL, "app/web", "edge/ghcr.io/app"):
            trees.put(driver, images.image(name, "1.0", [images.layer({"f": name.encode()})]))
    return root


def paths(text: str) -> list[str]:
    return [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# /")]


def test_all(run: Run, tree: Path) -> None:
    result = run("client-config", "--all", *MIRROR)
    assert result.status == 0
    assert paths(result.out) == [
        *(
            f"/etc/containerd/certs.d/{name}/hosts.toml"
            for name in ("docker.io", "quay.io", "registry:5000", "_default")
        ),
        *(
            f"/etc/containers/registries.conf.d/50-{name}.conf"
            for name in ("docker.io", "quay.io", "registry-5000")
        ),
        "/etc/rancher/k3s/registries.yaml",
        "/etc/rancher/rke2/registries.yaml",
        "/etc/docker/daemon.json",
        "/etc/image-serve/talos.yaml",
        "/etc/image-serve/openshift.yaml",
    ]
    assert result.err == (
        "note: docker takes full names only with containerd's image store\n"
        "note: docker has no mirror of quay.io, registry:5000\n"
    )


def test_all_behind_a_path(run: Run, tree: Path) -> None:
    result = run("client-config", "--all", "--mirror", "https://registry.example.com/edge")
    assert result.status == 0
    hosts = [path for path in paths(result.out) if "certs.d" in path]
    assert hosts == ["/etc/containerd/certs.d/ghcr.io/hosts.toml"]
    assert '"https://registry.example.com/v2/edge/ghcr.io"' in result.out


def test_a_tree_that_is_named(run: Run, tree: Path, tmp_path: Path) -> None:
    written = run("client-config", "--all", *MIRROR, "--root", tree, "-o", tmp_path / "here")
    assert written.status == 0
    files = [Path(line).relative_to(tmp_path / "here") for line in written.out.splitlines()]
    assert Path("etc/containerd/certs.d/docker.io/hosts.toml") in files


def test_registries_that_are_named(run: Run) -> None:
    for names in (("quay.io",), ("quay.io", "docker.io", "quay.io")):
        result = run("client-config", *names, "--full-names", *MIRROR, "--for", "containerd")
        assert (result.status, result.err) == (0, "")
        folders = [f"/etc/containerd/certs.d/{name}/hosts.toml" for name in dict.fromkeys(names)]
        assert paths(result.out) == folders
    twice = run("client-config", "quay.io", "quay.io", *MIRROR, "--for", "openshift")
    assert twice.out.count("source: quay.io") == 2  # of digests and of tags
    plain = run("client-config", "quay.io", *MIRROR, "--for", "containerd")
    assert '"https://registry.example.com"' in plain.out
    assert '"https://registry.example.com/v2/quay.io"' in result.out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "name registries like quay.io, or say --all"),
        (("quay.io", "--all"), 2, "name registries like quay.io, or say --all"),
        (("quay.io", "--root", "/"), 2, "--root is for --all"),
        (("quay",), 1, "not a registry as images name it, like quay.io: 'quay'"),
    ],
)
def test_what_cannot_be(run: Run, arguments: tuple[str, ...], status: int, message: str) -> None:
    result = run("client-config", *arguments, *MIRROR)
    assert (result.status, result.out) == (status, "")
    assert result.err.endswith(f"{message}\n")


def test_a_tree_without_full_names(run: Run, root: Path) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, images.image("app/web", "1.0", []))
    result = run("client-config", "--all", *MIRROR)
    assert (result.status, result.out) == (1, "")
    assert result.err == f"ERROR: no name in {root} begins with a registry\n"


def test_a_password_comes_by_standard_input_or_not_at_all(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = ("--username", "puller", "--password-file", "-", "--for", "containerd")
    for number, (text, status) in enumerate(
        ((f"{WORD}\r\nmore\n", 0), (WORD * 1000, 1), ("p\udcff", 1))
    ):
        raw = io.BytesIO(text.encode(errors="surrogateescape"))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw, encoding="utf-8"))
        folder = tmp_path / str(number)
        result = run("client-config", "quay.io", *MIRROR, *login, "-o", folder)
        assert result.status == status
        assert result.err.startswith("ERROR: cannot read standard input: " if status else "")
        assert WORD not in result.said
        if status:
            assert not folder.exists()
        else:
            (file,) = folder.rglob("hosts.toml")
            told = base64.b64encode(f"puller:{WORD}".encode()).decode()
            assert f'"Basic {told}"' in file.read_text()
