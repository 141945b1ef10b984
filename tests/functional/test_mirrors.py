"""Clients that name another registry get its images from a tree, by what client-config writes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins.demo import images
from image_uploader_plugins.demo.images import Image
from image_uploader_plugins.local_export.driver import LocalExportDriver
from tests.functional.test_clients import Run, blobs_of, copied, ctr, puller, run  # noqa: F401
from tests.support import programs, tls, trees, web

# Nobody has this name: what does not come from the mirror does not come at all.
REGISTRY = "registry.invalid"
IMAGE: Image = next(image for image in images.corpus() if image.repository.value == "edge/oci")
NAME = f"{REGISTRY}/{IMAGE.repository}:{IMAGE.tag}"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            trees.put(driver, IMAGE)
        yield folder / "tree"


@pytest.fixture(scope="module", params=["nginx", "embedded"])
def mirror(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    with web.serve(request.param, root) as server:
        yield f"http://{server}"


def configured(output: Path, *options: object, registry: str = REGISTRY) -> Path:
    command = [web.PROGRAM, "client-config", registry, "-o", output, *options]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return output / "etc"


def test_podman_and_buildah(
    puller: Run,  # noqa: F811
    mirror: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    etc = configured(tmp_path, "--mirror", mirror, "--for", "podman")
    config = etc / "containers" / "registries.conf.d" / f"50-{REGISTRY}.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(config))
    identity = puller("pull", "--quiet", NAME)
    assert IMAGE.manifest.config
    assert identity.splitlines()[-1] == IMAGE.manifest.config.digest.encoded


def test_skopeo_with_tls(root: Path, tmp_path: Path) -> None:
    """The mirror's certificate is verified with the CA that lies where it looks for it."""
    skopeo = programs.require("skopeo")
    certificate, key = tls.make(tmp_path)
    with web.command(root, "--tls-certificate", certificate, "--tls-key", key) as url:
        etc = configured(tmp_path, "--mirror", url, "--for", "podman", "--ca", certificate)
        config = etc / "containers" / "registries.conf.d" / f"50-{REGISTRY}.conf"
        copy = tmp_path / "copy"
        options = ("--registries-conf", config, "copy", "--preserve-digests")
        with pytest.raises(AssertionError, match="certificate signed by unknown authority"):
            run(skopeo, *options, f"docker://{NAME}", f"dir:{copy}")
        trusted = etc / "containers" / "certs.d" / url.removeprefix("https://")
        run(skopeo, *options, "--src-cert-dir", trusted, f"docker://{NAME}", f"dir:{copy}")
    assert copied(copy) == blobs_of(IMAGE)


@pytest.mark.parametrize("registry", [REGISTRY, "*"])
def test_containerd(ctr: Run, mirror: str, tmp_path: Path, registry: str) -> None:  # noqa: F811
    options = ("--mirror", mirror, "--for", "containerd")
    etc = configured(tmp_path, *options, registry=registry)
    fetched(ctr, etc)


@pytest.mark.parametrize("verified", [True, False])
def test_containerd_with_tls(
    ctr: Run,  # noqa: F811
    root: Path,
    tmp_path: Path,
    verified: bool,
) -> None:
    certificate, key = tls.make(tmp_path)
    trust = ("--ca", certificate) if verified else ("--insecure",)
    with web.command(root, "--tls-certificate", certificate, "--tls-key", key) as url:
        etc = configured(tmp_path / "new", "--mirror", url, "--for", "containerd", *trust)
        # The path in it is the clients'.
        hosts = etc / "containerd" / "certs.d" / REGISTRY / "hosts.toml"
        hosts.write_text(hosts.read_text().replace('"/etc/', f'"{etc}/'))
        fetched(ctr, etc)


def fetched(ctr: Run, etc: Path) -> None:  # noqa: F811
    hosts = ("--hosts-dir", etc / "containerd" / "certs.d")
    ctr("content", "fetch", *hosts, "--all-platforms", NAME)
    held = set(ctr("content", "ls", "--quiet").splitlines())
    assert {f"sha256:{encoded}" for encoded in blobs_of(IMAGE)} <= held
    ctr("images", "rm", "--sync", NAME)
