# SPDX-License-Identifier: Apache-2.0
"""Clients that name another registry get its images from a tree, by what client-config writes."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.serving import webservers
from image_uploader_plugins.testing import images, web_server
from tests.support import commands, programs, tls, trees, web
from tests.support.clients import Run, blobs_of, copied, run
from tests.support.mirrors import IMAGE, NAME, REGISTRY, configured, fetched
from tests.support.registry import TamperedRegistry

pytestmark = pytest.mark.slow

# Two images with one name in two registries, and one of a registry with a port.
HUB, QUAY, WITH_PORT = (
    images.image(f"{prefix}/library/x", "1.0", [images.layer({"of": prefix.encode()})])
    for prefix in ("docker.io", "quay.io", "registry_5000")
)
FULL = {"docker.io": HUB, "quay.io": QUAY, "registry:5000": WITH_PORT}

USER, WORD = "puller", "p\u00e4ss:word"


# The same image under a name that begins with the registry's.
PREFIX = "mirror"
PREFIXED = images.image(f"{PREFIX}/edge/inner", "1.0", [images.layer({"f": b"inner"})])
INNER = f"{REGISTRY}/edge/inner:1.0"


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            for each in (IMAGE, PREFIXED, HUB, QUAY, WITH_PORT):
                trees.put(driver, each)
        yield folder / "tree"


@pytest.fixture(scope="module", params=["nginx", "embedded"])
def mirror(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    with web.serve(request.param, root) as server:
        yield f"http://{server}"


def test_podman_and_buildah(
    puller: Run,
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


@pytest.mark.parametrize("only", [(), ("--only",)])
def test_podman_and_buildah_with_a_path(
    puller: Run,
    mirror: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    only: tuple[str, ...],
) -> None:
    etc = configured(tmp_path, "--mirror", f"{mirror}/{PREFIX}", "--for", "podman", *only)
    config = etc / "containers" / "registries.conf.d" / f"50-{REGISTRY}.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(config))
    identity = puller("pull", "--quiet", INNER)
    assert PREFIXED.manifest.config
    assert identity.splitlines()[-1] == PREFIXED.manifest.config.digest.encoded


def configured_for_all(root: Path, output: Path, *options: object) -> Path:
    """Write what clients need for all registries in the tree, never to ask another server."""
    arguments = ("client-config", "--all", "--root", root, "--only", "-o", output, *options)
    commands.process(None, *arguments).check_returncode()
    return output / "etc"


def registries_conf(etc: Path) -> Path:
    """All files of podman in one, which an option can name."""
    parts = sorted((etc / "containers" / "registries.conf.d").iterdir())
    whole = etc / "registries.conf"
    read = [tomllib.loads(part.read_text())["registry"] for part in parts]
    whole.write_text(tomli_w.dumps({"registry": [each for every in read for each in every]}))
    return whole


@pytest.mark.parametrize("registry", FULL)
def test_podman_and_buildah_with_full_names(
    puller: Run,
    root: Path,
    mirror: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    registry: str,
) -> None:
    etc = configured_for_all(root, tmp_path, "--mirror", mirror, "--for", "podman")
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(registries_conf(etc)))
    identity = puller("pull", "--quiet", f"{registry}/library/x:1.0")
    config = FULL[registry].manifest.config
    assert config
    assert identity.splitlines()[-1] == config.digest.encoded


def test_skopeo_with_full_names(root: Path, mirror: str, tmp_path: Path) -> None:
    skopeo = programs.require("skopeo")
    etc = configured_for_all(root, tmp_path, "--mirror", mirror, "--for", "podman")
    options = ("--registries-conf", registries_conf(etc), "copy", "--preserve-digests")
    for registry, image in FULL.items():
        copy = tmp_path / registry.replace(":", "-")
        run(skopeo, *options, f"docker://{registry}/library/x:1.0", f"dir:{copy}")
        assert copied(copy) == blobs_of(image)


@pytest.mark.parametrize("by", ["a folder for each registry", "one for all"])
def test_containerd_with_full_names(
    ctr: Run, root: Path, mirror: str, tmp_path: Path, by: str
) -> None:
    etc = configured_for_all(root, tmp_path, "--mirror", mirror, "--for", "containerd")
    folders = etc / "containerd" / "certs.d"
    for folder in folders.iterdir():
        if (folder.name == "_default") is (by != "one for all"):
            shutil.rmtree(folder)
    for registry, image in FULL.items():
        fetched(ctr, etc, image, f"{registry}/library/x:1.0")


def test_containerd_gets_no_other_registry_s_image(
    ctr: Run, root: Path, mirror: str, tmp_path: Path
) -> None:
    etc = configured_for_all(root, tmp_path, "--mirror", mirror, "--for", "containerd")
    hosts = ("--hosts-dir", etc / "containerd" / "certs.d")
    for name in ("ghcr.io/library/x:1.0", "ghcr.io/quay.io/library/x:1.0"):
        with pytest.raises(AssertionError, match="not found"):
            ctr("content", "fetch", *hosts, name)


def test_skopeo_with_a_login(guarded: str, tmp_path: Path) -> None:
    skopeo = programs.require("skopeo")
    login = with_login(tmp_path)
    etc = configured(tmp_path, "--mirror", guarded, "--for", "podman", *login)
    config = etc / "containers" / "registries.conf.d" / f"50-{REGISTRY}.conf"
    copy = tmp_path / "copy"
    arguments = ("--registries-conf", config, "copy", f"docker://{NAME}", f"dir:{copy}")
    home = {"HOME": str(tmp_path / "root"), "XDG_RUNTIME_DIR": str(tmp_path), "DOCKER_CONFIG": ""}
    with pytest.raises(AssertionError, match=r"uthorized|authentication"):
        run(skopeo, *arguments, **home | {"HOME": str(tmp_path)})
    run(skopeo, *arguments, **home)
    assert copied(copy) == blobs_of(IMAGE)


def test_containerd_with_a_login(ctr: Run, guarded: str, tmp_path: Path) -> None:
    for only in ((), ("--only",)):
        output = tmp_path / "-".join(("output", *only))
        options = ("--mirror", guarded, "--for", "containerd", *with_login(tmp_path), *only)
        fetched(ctr, configured(output, *options))


@pytest.mark.parametrize("only", [(), ("--only",)])
def test_containerd_with_a_path(
    ctr: Run,
    mirror: str,
    tmp_path: Path,
    only: tuple[str, ...],
) -> None:
    options = ("--mirror", f"{mirror}/{PREFIX}", "--for", "containerd", *only)
    fetched(ctr, configured(tmp_path, *options), PREFIXED, INNER)


@pytest.mark.parametrize("client", ["containerd", "podman"])
def test_only_means_only(
    ctr: Run,
    mirror: str,
    tmp_path: Path,
    client: str,
) -> None:
    """What the mirror does not have is asked of the registry, or not at all."""
    skopeo = programs.require("skopeo")
    upstream = TamperedRegistry([])
    with web_server.serving(upstream) as registry:
        name = f"{registry}/absent/image:1.0"
        for only, asked in (((), True), (("--only",), False)):
            output = tmp_path / "-".join(("output", *only))
            options = ("--mirror", mirror, "--for", client, *only)
            etc = configured(output, *options, registry=registry)
            upstream.requests.clear()
            with pytest.raises(AssertionError):
                if client == "containerd":
                    hosts = etc / "containerd" / "certs.d"
                    ctr("content", "fetch", "--hosts-dir", hosts, name)
                else:
                    (config,) = (etc / "containers" / "registries.conf.d").iterdir()
                    plain = "--tls-verify=false"
                    run(skopeo, "--registries-conf", config, "inspect", plain, f"docker://{name}")
            assert bool(upstream.requests) is asked


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
def test_containerd(ctr: Run, mirror: str, tmp_path: Path, registry: str) -> None:
    options = ("--mirror", mirror, "--for", "containerd")
    etc = configured(tmp_path, *options, registry=registry)
    fetched(ctr, etc)


@pytest.mark.parametrize("verified", [True, False])
def test_containerd_with_tls(
    ctr: Run,
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


@pytest.fixture
def guarded(root: Path) -> Iterator[str]:
    """The tree behind nginx and a password."""
    openssl = programs.require("openssl")

    def write(folder: Path, port: int) -> str:
        users = folder / "users"
        users.write_text(f"{USER}:{run(openssl, 'passwd', '-apr1', WORD)}\n")
        site = webservers.nginx(webservers.Site(root, port, "127.0.0.1"))
        access = f'server {{\n    auth_basic registry;\n    auth_basic_user_file "{users}";\n'
        return web.nginx_main(folder, site.replace("server {\n", access))

    with web.running("nginx", write) as address:
        yield f"http://{address}"


def with_login(folder: Path) -> tuple[object, ...]:
    """Options of client-config; the password is in a file."""
    password = folder / "password"
    password.write_text(f"{WORD}\n")
    return ("--username", USER, "--password-file", password)
