# SPDX-License-Identifier: Apache-2.0
"""Clients of an index of which just some platforms were copied, from each server."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Sequence

import pytest
import requests

from image_uploader_plugins import media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.testing.images import Image
from tests.support import odd_registry, web
from tests.support.clients import Run, blobs_of, copied, run
from tests.support.odd_registry import OddRegistry
from tests.support.platforms import AMD64, ARM64, S390X, Built, built
from tests.support.sources import source

# Each repository has an index of three platforms, and these of them.
CHOSEN = {"some/amd64": [AMD64], "some/others": [ARM64, S390X]}
FOUND = {name: built(name, "1", "linux/arm64/v8", "linux/s390x", "linux/amd64") for name in CHOSEN}
PLATFORMS = {"linux/amd64": AMD64, "linux/arm64/v8": ARM64, "linux/s390x": S390X}

pytestmark = pytest.mark.slow


def copy(driver: LocalExportDriver, address: str, name: str, platforms: Sequence[Platform]) -> None:
    target, options = RepositoryName(name), CopyOptions(platforms=tuple(platforms))
    copier = Copier(driver, target, source(address, name), options=options)
    copier.copy(Tag("1"), Tag("1"), all_platforms=False)


@pytest.fixture(scope="module")
def sparse(kind: web.Kind) -> Iterator[str]:
    """A server of what was copied."""
    registry = OddRegistry([found.index for found in FOUND.values()])
    with web.open_folder() as folder:
        with (
            LocalExportDriver(folder / "tree") as driver,
            odd_registry.serving(registry) as address,
        ):
            for name, platforms in CHOSEN.items():
                copy(driver, address, name, platforms)
        with web.serve(kind, folder / "tree") as server:
            yield server


def held(name: str) -> tuple[list[Image], list[Image]]:
    """The manifests of a repository that were copied, and those that were not."""
    found: Built = FOUND[name]
    here: list[Image] = [found.index]
    away: list[Image] = []
    for text, platform in PLATFORMS.items():
        both = [found.image[text], found.attestation[text]]
        (here if platform in CHOSEN[name] else away).extend(both)
    return here, away


@pytest.mark.parametrize("name", CHOSEN)
def test_what_was_chosen_is_there_and_nothing_else(sparse: str, name: str) -> None:
    here, away = held(name)
    for images, status in ((here, 200), (away, 404)):
        for image in images:
            url = f"http://{sparse}/v2/{name}/manifests/{image.digest}"
            answer = requests.get(url, headers={"Accept": "*/*"}, timeout=30)
            assert answer.status_code == status
            assert status == 404 or answer.content == image.manifest.content
    by_tag = requests.get(f"http://{sparse}/v2/{name}/manifests/1", timeout=30)
    assert by_tag.content == here[0].manifest.content


@pytest.mark.parametrize(
    ("name", "default"), [("some/amd64", "linux/amd64"), ("some/others", "linux/arm64/v8")]
)
def test_who_knows_no_index_gets_an_image_that_is_there(
    sparse: str, name: str, default: str
) -> None:
    accept = f"{media_types.OCI_MANIFEST}, {media_types.DOCKER_MANIFEST}"
    url = f"http://{sparse}/v2/{name}/manifests/1"
    answer = requests.get(url, headers={"Accept": accept}, timeout=30)
    assert answer.content == FOUND[name].image[default].manifest.content


@pytest.mark.parametrize(
    ("name", "platform"), [("some/amd64", "linux/amd64"), ("some/others", "linux/arm64/v8")]
)
def test_skopeo_copies_a_platform_that_is_there(
    skopeo: str, sparse: str, tmp_path: object, name: str, platform: str
) -> None:
    architecture, image = platform.split("/")[1], FOUND[name].image[platform]
    run(
        *(skopeo, "--override-arch", architecture, "copy", "--src-tls-verify=false"),
        *(f"docker://{sparse}/{name}@{FOUND[name].index.digest}", f"dir:{tmp_path}"),
    )
    assert copied(tmp_path) == blobs_of(image)  # type: ignore[arg-type]
    raw = (skopeo, "inspect", "--raw", "--tls-verify=false", f"docker://{sparse}/{name}:1")
    content = subprocess.run(raw, capture_output=True, check=True).stdout
    assert hashlib.sha256(content).hexdigest() == FOUND[name].index.digest.encoded


@pytest.mark.parametrize(
    ("name", "platform"), [("some/amd64", "linux/amd64"), ("some/others", "linux/arm64/v8")]
)
def test_podman_and_buildah_pull_a_platform_that_is_there(
    puller: Run, sparse: str, name: str, platform: str
) -> None:
    config = FOUND[name].image[platform].manifest.config
    assert config
    for reference in (":1", f"@{FOUND[name].index.digest}"):
        target = f"{sparse}/{name}{reference}"
        chosen = ("--arch", platform.split("/")[1])
        identity = puller("pull", "--quiet", "--tls-verify=false", *chosen, target)
        assert identity.splitlines()[-1] == config.digest.encoded


@pytest.mark.parametrize(
    ("name", "platform"), [("some/amd64", "linux/amd64"), ("some/others", "linux/arm64")]
)
def test_containerd_pulls_a_platform_that_is_there(
    ctr: Run, sparse: str, name: str, platform: str
) -> None:
    reference = f"{sparse}/{name}:1"
    ctr("content", "fetch", "--plain-http", "--platform", platform, reference)
    here = set(ctr("content", "ls", "--quiet").splitlines())
    image = next(image for text, image in FOUND[name].image.items() if text.startswith(platform))
    assert {f"sha256:{encoded}" for encoded in blobs_of(image)} <= here
    # Another server's test must fetch again.
    ctr("images", "rm", "--sync", reference)


@pytest.mark.parametrize(("name", "platform"), [("some/amd64", "linux/amd64")])
def test_docker_pulls_a_platform_that_is_there(
    docker: Run, sparse: str, name: str, platform: str
) -> None:
    target = f"{sparse}/{name}@{FOUND[name].index.digest}"
    docker("pull", "--quiet", "--platform", platform, target)
    (found,) = json.loads(docker("image", "inspect", target))
    config = FOUND[name].image[platform].manifest.config
    assert config
    assert found["Id"] == str(config.digest)
    docker("image", "rm", "--force", found["Id"])
