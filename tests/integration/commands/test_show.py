# SPDX-License-Identifier: Apache-2.0
"""One image: its parts, who shares them, how to pull it, and whether it is complete."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.serving.listener import serving
from image_uploader_plugins.testing.images import Image
from tests.integration.commands import content
from tests.support import programs, trees
from tests.support.commands import Run


def shown(run: Run, *arguments: str) -> dict[str, Any]:
    result = run("show", "-f", "json", *arguments)
    assert (result.status, result.err) == (0, "")
    fields: dict[str, Any] = json.loads(result.out)
    return fields


def blob_path(root: Path, image: Image, digest: Digest) -> Path:
    (path,) = (root / "v2" / str(image.repository) / "blobs").glob(f"{digest}*")
    return path


@pytest.mark.usefixtures("filled")
def test_an_image(run: Run) -> None:
    fields = shown(run, "ns/img:1.0")
    manifest = content.ONE.manifest
    assert fields["digest"] == str(content.ONE.digest)
    assert fields["tags"] == ["1.0", "latest"]
    assert fields["media_type"] == manifest.media_type
    assert fields["config"][0]["size"] == manifest.config.size if manifest.config else None
    base, one = fields["layers"]
    assert base["digest"] == str(content.BASE.digest)
    assert base["size"] == len(content.BASE.content)
    assert {"ns/img:2.0", "ns/img:latest", "ns/copy", "ns/multi"} <= set(base["shared_with"])
    assert "ns/img:1.0" not in base["shared_with"]
    assert one["shared_with"] == ["ns/copy", "ns/img:latest"]
    assert fields["referrers"] == [
        {
            "digest": str(content.SIGNATURE.digest),
            "media_type": content.SIGNATURE.manifest.media_type,
            "artifact_type": "application/vnd.example.signature+json",
        }
    ]
    assert fields["complete"] is True


@pytest.mark.usefixtures("filled")
def test_by_digest_it_is_the_same(run: Run) -> None:
    by_tag = shown(run, "ns/img:2.0")
    by_digest = shown(run, f"ns/img@{content.TWO.digest}")
    assert by_digest["image"] == f"ns/img@{content.TWO.digest}"
    for name in ("digest", "tags", "size", "own", "layers", "config"):
        if name != "layers":
            assert by_digest[name] == by_tag[name]


@pytest.mark.usefixtures("filled")
def test_a_list_shows_its_images(run: Run) -> None:
    fields = shown(run, "ns/multi:1.0")
    assert [(child["platform"], child["present"]) for child in fields["images"]] == [
        ("linux/amd64", True),
        ("linux/arm64", True),
    ]
    child = shown(run, f"ns/multi@{fields['images'][0]['digest']}")
    assert child["platforms"] == ["linux/amd64"]


def test_what_is_missing_or_damaged_is_told(run: Run, filled: Path) -> None:
    layer, config = (content.ALONE.manifest.layers[0].digest, content.ALONE.manifest.config)
    assert config
    path = blob_path(filled, content.ALONE, layer)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + b"x")
    assert shown(run, "alone:1.0")["complete"] is True
    result = run("show", "-f", "json", "--verify", "alone:1.0")
    assert (result.status, json.loads(result.out)["complete"]) == (1, False)
    assert result.err.startswith(f"ERROR: alone:1.0: {path}: its content hashes to sha256:")
    path.write_bytes(data[:-1])
    result = run("show", "alone:1.0")
    assert result.status == 1
    assert result.err == (
        f"ERROR: alone:1.0: {path} has {len(data) - 1} bytes, and the manifest says {len(data)}\n"
    )
    path.unlink()
    result = run("show", "alone:1.0")
    assert (result.status, result.err) == (1, f"ERROR: alone:1.0: blob {layer} is missing\n")


def test_a_child_that_is_missing_is_told(run: Run, filled: Path) -> None:
    child = content.CHILDREN[0].digest
    shutil.rmtree(filled / "v2/ns/multi/manifests" / str(child))
    result = run("show", "-f", "json", "ns/multi:1.0")
    assert result.status == 1
    assert result.err == f"ERROR: ns/multi:1.0: manifest {child} is missing\n"
    assert [c["present"] for c in json.loads(result.out)["images"]] == [False, True]


@pytest.mark.usefixtures("filled")
def test_what_is_not_there(run: Run) -> None:
    for image in ("alone:2.0", "no/such:1", f"alone@sha256:{'0' * 64}"):
        result = run("show", image)
        assert (result.status, result.out) == (1, "")
        assert result.err == f"ERROR: no such image: {image}\n"
    assert run("show", "alone").status == 2
    assert run("show", "alone:1.0", "--host", "a b").status == 2
    assert run("show", "alone:1.0", "--host", "$(id)").status == 2


@pytest.mark.parametrize("style", ["table", "json", "yaml", "shell", "value"])
def test_nothing_that_a_terminal_obeys(run: Run, filled: Path, style: str) -> None:
    result = run("show", "ns/hostile:1.0", "-f", style)
    assert (result.status, result.err) == (0, "")
    assert all(line.isprintable() for line in result.out.splitlines())
    assert not any(line.startswith("ERROR") for line in result.out.splitlines())
    assert result.out.count("forged") >= 5


@pytest.mark.usefixtures("filled")
def test_for_machines_labels_and_annotations_are_as_they_are(run: Run) -> None:
    fields = shown(run, "ns/hostile:1.0")
    assert fields["labels"] == {"label" + content.ESCAPES: "value" + content.ESCAPES}
    assert fields["annotations"] == {"note" + content.ESCAPES: "text" + content.ESCAPES}


@pytest.mark.usefixtures("filled")
def test_commands_for_what_clients_know(run: Run) -> None:
    programs_of = {
        image: [line.split()[0] for line in shown(run, image)["pull"]]
        for image in ("ns/img:1.0", "ns/multi:1.0", "ns/chart:0.1")
    }
    assert programs_of["ns/img:1.0"] == ["podman", "docker", "skopeo", "ctr"]
    assert programs_of["ns/multi:1.0"] == ["podman", "docker", "skopeo", "ctr"]
    assert programs_of["ns/chart:0.1"] == ["skopeo", "oras"]
    lines = shown(run, "ns/img:1.0", "--host", "https://registry.example.com")["pull"]
    assert lines[0] == "podman pull registry.example.com/ns/img:1.0"
    assert "http" not in "".join(lines)


@pytest.mark.parametrize("image", ["ns/img:1.0", f"ns/img@{content.TWO.digest}", "ns/multi:1.0"])
def test_the_command_for_skopeo_pulls(run: Run, filled: Path, tmp_path: Path, image: str) -> None:
    programs.require("skopeo")
    with serving(filled) as served:
        (line,) = (
            line
            for line in shown(run, image, "--host", served)["pull"]
            if line.startswith("skopeo ")
        )
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*/manifest.json"))


def test_looking_changes_nothing(run: Run, filled: Path) -> None:
    before = trees.served(filled)
    shown(run, "--verify", "ns/multi:1.0")
    assert trees.served(filled) == before
