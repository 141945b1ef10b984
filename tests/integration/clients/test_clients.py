# SPDX-License-Identifier: Apache-2.0
"""Real clients pull from each server what each client can carry."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import trees, web
from tests.support.clients import Run, blobs_of, by_name, copied, run
from tests.support.content import everything, referrer
from tests.support.registry import docker_registry

PLAIN = ["base", "openstack/nova-api", "openstack/nova/compute", "openstack/plain", "edge/oci"]
LISTS = ["multi/docker", "multi/oci"]


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN + LISTS)
def test_skopeo_sees_the_bytes(skopeo: str, server: str, name: str) -> None:
    image = by_name(name)
    for part, reference in ((image, f":{image.tag}"), *((p, f"@{p.digest}") for p in image.walk())):
        done = subprocess.run(
            [
                skopeo,
                "inspect",
                "--tls-verify=false",
                "--raw",
                f"docker://{server}/{name}{reference}",
            ],
            capture_output=True,
            check=True,
        )
        assert done.stdout == part.manifest.content


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_skopeo_copies(skopeo: str, server: str, tmp_path: Path, name: str, by: str) -> None:
    image = by_name(name)
    reference = f":{image.tag}" if by == "tag" else f"@{image.digest}"
    source = f"docker://{server}/{name}{reference}"
    run(skopeo, "copy", "--src-tls-verify=false", "--preserve-digests", source, f"dir:{tmp_path}")
    assert copied(tmp_path) == blobs_of(image)


@pytest.mark.parametrize("name", LISTS)
def test_skopeo_copies_all_platforms(skopeo: str, server: str, tmp_path: Path, name: str) -> None:
    image = by_name(name)
    options = ("--all", "--src-tls-verify=false", "--preserve-digests")
    run(skopeo, "copy", *options, f"docker://{server}/{name}:1.0", f"dir:{tmp_path}")
    assert copied(tmp_path) == blobs_of(image)


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_skopeo_chooses_the_architecture(
    skopeo: str, server: str, tmp_path: Path, name: str, number: int
) -> None:
    """Defect 25: every architecture got amd64 where its file was the smaller one."""
    architecture = ("amd64", "arm64", "s390x")[number]
    run(
        *(skopeo, "--override-arch", architecture, "copy", "--src-tls-verify=false"),
        *(f"docker://{server}/{name}:1.0", f"dir:{tmp_path}"),
    )
    assert copied(tmp_path) == blobs_of(by_name(name).children[number])


def test_skopeo_lists_tags(skopeo: str, server: str) -> None:
    listed = run(skopeo, "list-tags", "--tls-verify=false", f"docker://{server}/base")
    assert json.loads(listed)["Tags"] == ["1.0"]


# What skopeo 1.9 copies from no registry: digests that are not sha256, an index
# in an index, all of an index that is not all there, and a layer that the
# registry does not hold.
_NOT_FOR_SKOPEO = {"odd/sha512", "odd/nested", "odd/sparse", "odd/elsewhere"}
ODD = [
    image.repository.value
    for image in everything()
    if image.repository.value.startswith(("odd/", "old/"))
]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ODD if name not in _NOT_FOR_SKOPEO])
def test_skopeo_carries_the_unusual(skopeo: str, server: str, tmp_path: Path, name: str) -> None:
    image = by_name(name)
    options = ("--all", "--src-tls-verify=false", "--preserve-digests")
    run(skopeo, "copy", *options, f"docker://{server}/{name}:1.0", f"dir:{tmp_path}")
    assert copied(tmp_path) == blobs_of(image)


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_skopeo_reads_every_manifest(skopeo: str, server: str, name: str) -> None:
    image = by_name(name)
    raw = ("inspect", "--raw", "--tls-verify=false", f"docker://{server}/{name}:1.0")
    assert subprocess.check_output([skopeo, *raw]) == image.manifest.content


@pytest.mark.slow
def test_skopeo_takes_and_gives_back(skopeo: str, server: str, tmp_path: Path) -> None:
    """From the tree into a registry that runs, and every byte is the same."""
    with docker_registry(tmp_path) as target:
        for name in PLAIN + LISTS:
            image = by_name(name)
            places = [f"docker://{host}/{name}:{image.tag}" for host in (server, target)]
            run(
                *(skopeo, "copy", "--all", "--preserve-digests"),
                *("--src-tls-verify=false", "--dest-tls-verify=false", *places),
            )
            inspect = ("inspect", "--raw", "--tls-verify=false", places[1])
            done = subprocess.run([skopeo, *inspect], capture_output=True, check=True)
            assert done.stdout == image.manifest.content


@pytest.mark.slow
def test_oras_pulls_an_artifact_and_finds_its_referrers(kind: web.Kind, tmp_path: Path) -> None:
    import oras.client

    subject = images.artifact("sbom/image", "1.0", "application/vnd.example", b"an artifact")
    about = [referrer(subject, "application/vnd.example.sbom+json", text) for text in "ab"]
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            for image in (subject, *about):
                trees.put(driver, image)
            for number in range(70):
                trees.put(driver, subject, f"v{number}")
        with web.serve(kind, folder / "tree") as server:
            client = oras.client.OrasClient(hostname=server, insecure=True)
            target = f"{server}/sbom/image"
            assert client.get_manifest(f"{target}:1.0") == json.loads(subject.manifest.content)
            assert len(client.get_tags(target, N=1000)) == 71
            url = f"http://{target.replace('/', '/v2/', 1)}/referrers/{subject.digest}"
            listed = client.do_request(url).json()["manifests"]
            assert {d["digest"] for d in listed} == {str(image.digest) for image in about}
            for number, image in enumerate((subject, *about)):
                reference = f"{target}@{image.digest}"
                pulled = client.pull(reference, outdir=str(tmp_path / str(number)))
                content = {Path(path).read_bytes() for path in pulled}
                assert content == {image.blobs[d.digest] for d in image.manifest.layers}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_podman_and_buildah_pull(puller: Run, server: str, name: str) -> None:
    image = by_name(name)
    for reference in (f":{image.tag}", f"@{image.digest}"):
        identity = puller("pull", "--quiet", "--tls-verify=false", f"{server}/{name}{reference}")
        assert image.manifest.config
        # An image is called by the digest of its config, which names all layers.
        assert identity.splitlines()[-1] == image.manifest.config.digest.encoded


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("number", [0, 1])
def test_podman_and_buildah_choose_the_architecture(
    puller: Run, server: str, name: str, number: int
) -> None:
    architecture = ("amd64", "arm64")[number]
    target = f"{server}/{name}:1.0"
    identity = puller("pull", "--quiet", "--tls-verify=false", "--arch", architecture, target)
    config = by_name(name).children[number].manifest.config
    assert config
    assert identity.splitlines()[-1] == config.digest.encoded


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN + LISTS)
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_ctr_pulls(ctr: Run, server: str, name: str, by: str) -> None:
    image = by_name(name)
    reference = f"{server}/{name}" + (f":{image.tag}" if by == "tag" else f"@{image.digest}")
    ctr("content", "fetch", "--plain-http", "--all-platforms", reference)
    held = set(ctr("content", "ls", "--quiet").splitlines())
    assert {f"sha256:{encoded}" for encoded in blobs_of(image)} <= held
    assert str(image.digest) in ctr("images", "ls", f"name=={reference}")
    # Another server's test must fetch again.
    ctr("images", "rm", "--sync", reference)
