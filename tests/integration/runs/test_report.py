# SPDX-License-Identifier: Apache-2.0
"""--report: what became of each image, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_uploader_plugins import demonstration
from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.images import corpus
from image_uploader_plugins.testing.registry import SourceRegistry
from tests.integration.runs.conftest import SERVED_AT, Cli, by_name, tagged
from tests.support.checkout import PROJECT

pytestmark = pytest.mark.slow

DOCUMENTATION = PROJECT / "doc" / "source" / "results.rst"
NOTHING = {"count": 0, "bytes": 0}


def outcomes(image: dict[str, Any], kind: str = "layer") -> list[str]:
    return sorted(blob["outcome"] for blob in image["blobs"] if blob["kind"] == kind)


def keys(value: Any) -> Any:
    """Return the names of a report's fields, at every level."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [keys(value[0])] if value else []
    return None


def test_success(cli: Cli, source: str) -> None:
    image = by_name("openstack/plain")
    assert cli.upload(cli.images(source, image)).returncode == 0
    found = cli.report()
    (config, layer) = image.manifest.config, image.manifest.layers[0]
    assert config
    size = (config.size or 0) + (layer.size or 0)
    assert (found["schema_version"], found["command"], found["status"]) == (
        1,
        "upload",
        "succeeded",
    )
    assert found["why"] is None
    assert found["summary"]["images"] == {
        "total": 1,
        "copied": 1,
        "unchanged": 0,
        "skipped": 0,
        "failed": 0,
    }
    assert found["summary"]["layers"]["fetched"] == {"count": 1, "bytes": layer.size}
    assert found["summary"]["bytes_fetched"] == size
    (reported,) = found["images"]
    assert 0 < reported.pop("seconds") <= found["seconds"]
    reported["blobs"].sort(key=lambda blob: blob["kind"])
    assert reported == {
        "source": f"{source}/{tagged(image)}",
        "uploader": "local-export",
        "status": "copied",
        "why": None,
        "retryable": False,
        "targets": [f"{SERVED_AT}/{tagged(image)}"],
        "digest": str(image.digest),
        "media_type": image.manifest.media_type,
        "bytes_fetched": size,
        "signatures": [],
        "insecure": True,
        "missing_platforms": [],
        "blobs": [
            {
                "digest": str(blob.digest),
                "kind": kind,
                "media_type": blob.media_type,
                "size": blob.size,
                "outcome": "fetched",
                "why": None,
            }
            for kind, blob in (("config", config), ("layer", layer))
        ],
        "children": [],
    }


def test_unchanged(cli: Cli, source: str) -> None:
    file = cli.images(source, *corpus(), multi_arch=True)
    assert cli.upload(file).returncode == 0
    assert cli.upload(file).returncode == 0
    found = cli.report()
    assert found["summary"]["images"]["unchanged"] == len(corpus())
    assert found["summary"]["bytes_fetched"] == 0
    assert found["summary"]["layers"]["mounted"] == NOTHING
    for image in found["images"]:
        assert (image["status"], set(outcomes(image))) == ("unchanged", {"present"})
        assert {child["status"] for child in image["children"]} <= {"unchanged"}


def test_a_tag_that_moves_is_copied_though_nothing_is_fetched(cli: Cli, source: str) -> None:
    registry = SourceRegistry([by_name("openstack/nova-api")])
    layers = [images.layer({"file": b"one"})]
    with web_server.serving(registry) as address:
        for tag in ("1.0", "2.0"):
            image = images.image("moving/tag", tag, layers, labels={"v": tag})
            registry.add(image)
            assert cli.upload(cli.images(address, image)).returncode == 0
        registry.manifests["moving/tag", "1.0"] = image.manifest
        assert cli.upload(cli.images(address, "moving/tag:1.0")).returncode == 0
    (reported,) = cli.report()["images"]
    assert (reported["status"], reported["bytes_fetched"]) == ("copied", 0)
    assert reported["digest"] == str(image.digest)


def test_mounted(cli: Cli, source: str) -> None:
    assert cli.upload(cli.images(source, by_name("base"))).returncode == 0
    assert cli.upload(cli.images(source, by_name("openstack/nova-api"))).returncode == 0
    found = cli.report()
    (image,) = found["images"]
    assert (image["status"], outcomes(image)) == ("copied", ["fetched", "mounted"])
    mounted = by_name("base").manifest.layers[0]
    assert found["summary"]["layers"]["mounted"] == {"count": 1, "bytes": mounted.size}


def test_children(cli: Cli, source: str) -> None:
    index = by_name("multi/oci")
    assert cli.upload(cli.images(source, index, multi_arch=True)).returncode == 0
    (image,) = cli.report()["images"]
    assert image["digest"] == str(index.digest)
    assert image["children"] == [
        {
            "digest": str(child.digest),
            "media_type": child.media_type,
            "size": child.size,
            "platform": f"linux/{child.platform.architecture}",
            "status": "copied",
            "why": None,
        }
        for child in index.manifest.manifests
    ]
    distinct = {layer.digest for child in index.children for layer in child.manifest.layers}
    assert len(outcomes(image)) == len(distinct)


def test_a_child_that_fails(cli: Cli) -> None:
    index = by_name("multi/oci")
    registry = SourceRegistry([index])
    del registry.manifests["multi/oci", str(index.children[1].digest)]
    with web_server.serving(registry) as address:
        assert cli.upload(cli.images(address, index, multi_arch=True)).returncode == 1
    (image,) = cli.report()["images"]
    assert [child["status"] for child in image["children"]] == ["copied", "failed", "skipped"]
    assert "not found" in image["children"][1]["why"]
    assert image["children"][2]["why"].startswith("never begun")
    assert (image["status"], image["digest"]) == ("failed", None)


def test_one_of_several_fails(cli: Cli, source: str) -> None:
    file = cli.images(source, by_name("base"), "absent:1.0", by_name("openstack/plain"))
    assert cli.upload(file).returncode == 1
    found = cli.report()
    assert found["status"] == "failed"
    assert found["why"].startswith(f"{source}/absent:1.0: not found")
    assert [image["status"] for image in found["images"]] == ["copied", "failed", "copied"]
    failed = found["images"][1]
    assert failed["why"].startswith(f"{source}/absent:1.0: not found")
    assert (failed["digest"], failed["blobs"], failed["retryable"]) == (None, [], False)
    assert failed["targets"] == [f"{SERVED_AT}/absent:1.0"]


def test_a_layer_that_fails(cli: Cli) -> None:
    image = by_name("openstack/nova-api")
    registry = SourceRegistry([image])
    layer = str(image.manifest.layers[1].digest)
    del registry.blobs[image.repository.value, layer]
    with web_server.serving(registry) as address:
        assert cli.upload(cli.images(address, image)).returncode == 1
    (reported,) = cli.report()["images"]
    (failed,) = [blob for blob in reported["blobs"] if blob["digest"] == layer]
    assert failed["outcome"] == "failed"
    assert "404" in failed["why"]
    assert layer in reported["why"]


def test_a_name_that_cannot_be_does_not_stop_the_others(cli: Cli, source: str) -> None:
    assert cli.upload(cli.images(source, "ns/../../etc:1.0", by_name("base"))).returncode == 1
    images = cli.report()["images"]
    assert [image["status"] for image in images] == ["failed", "copied"]
    assert "not a repository name" in images[0]["why"]


def test_input_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    assert cli.upload(tmp_path / "absent.yaml").returncode == 1
    found = cli.report()
    assert (found["status"], found["images"]) == ("failed", [])
    assert str(tmp_path / "absent.yaml") in found["why"]


def prepared(source: str, *names: str) -> dict[str, Any]:
    entries = [
        {
            "uploader": "local-export",
            "push_destination": demonstration.SERVED_AT,
            "includes": [f"/{name}:"],
            "set": {"ceph_namespace": source, "ceph_image": name, "ceph_tag": "1.0"},
        }
        for name in names
    ]
    return {"parameter_defaults": {"ContainerImagePrepare": entries}}


def test_prepare_and_an_entry_whose_image_fails(cli: Cli, source: str, tmp_path: Path) -> None:
    file = tmp_path / "environment.yaml"
    file.write_text(yaml.safe_dump(prepared(source, "base", "absent", "base")))
    assert cli.run("prepare", "-e", file, "--report", cli.report_file).returncode == 1
    found = cli.report()
    assert (found["command"], found["status"]) == ("prepare", "failed")
    assert [image["status"] for image in found["images"]] == ["copied", "failed", "copied"]
    assert found["entries_left"] == []


def test_prepare_and_the_entries_it_did_not_come_to(cli: Cli, source: str, tmp_path: Path) -> None:
    """Where one entry's images cannot be found out, nothing is copied."""
    file = tmp_path / "environment.yaml"
    given = prepared(source, "base", "absent", "base")
    given["parameter_defaults"]["ContainerImagePrepare"][1]["tag_from_label"] = "version"
    file.write_text(yaml.safe_dump(given))
    assert cli.run("prepare", "-e", file, "--report", cli.report_file).returncode == 1
    found = cli.report()
    assert (found["command"], found["status"]) == ("prepare", "failed")
    assert [image["status"] for image in found["images"]] == ["skipped"]
    assert found["entries_left"] == ["ContainerImagePrepare, entry 3"]
    assert not cli.root.exists()


@pytest.mark.parametrize("kind", ["absent folder", "folder", "link", "device"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_done(
    cli: Cli, source: str, tmp_path: Path, kind: str
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    path = {
        "absent folder": tmp_path / "absent" / "report.json",
        "folder": tmp_path,
        "link": link,
        "device": Path("/dev/null"),
    }[kind]
    done = cli.run("upload", cli.images(source, by_name("base")), "--report", path)
    assert done.returncode == 1
    assert f"cannot write {path}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not cli.root.exists()


def test_a_report_takes_the_place_of_another_and_leaves_nothing_beside_it(
    cli: Cli, source: str
) -> None:
    cli.report_file.write_text("another")
    assert cli.upload(cli.images(source, by_name("base"))).returncode == 0
    assert cli.report()["status"] == "succeeded"
    assert {path.name for path in cli.folder.iterdir()} == {
        *("report.json", "images.yaml", "image-uploader.conf", cli.root.name)
    }


def test_the_documentation_shows_a_report_as_it_is(cli: Cli, source: str) -> None:
    shown = DOCUMENTATION.read_text().partition("::\n\n    {\n")[2].partition("\n    }\n")[0]
    documented = json.loads("{" + shown + "}")
    file = cli.images(source, by_name("base"), by_name("multi/docker"), multi_arch=True)
    assert cli.upload(file).returncode == 0
    found = cli.report()
    found["images"] = [image for image in found["images"] if image["children"]]
    assert keys(found) == keys(documented)
