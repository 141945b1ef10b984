"""What show says of an image, and when it calls it complete."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import listener
from image_uploader_plugins.local_export.driver import LocalExportDriver
from tests.commands.conftest import BASE, COPY, HOSTILE, LIST, NOTE, ONE, STRANGE, TWO, Run
from tests.functional.content import sparse_index
from tests.support import programs, trees

pytestmark = pytest.mark.usefixtures("filled")


def fields(run: Run, *arguments: str) -> dict[str, Any]:
    result = run("show", "-f", "json", *arguments)
    assert (result.status, result.err) == (0, "")
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_an_image(run: Run) -> None:
    found = fields(run, "ns/img:1.0")
    config = ONE.manifest.config
    assert config
    assert found["Image"] == "ns/img:1.0"
    assert found["Digest"] == str(ONE.digest)
    assert (found["Tags"], found["Kind"], found["Platforms"]) == (["1.0"], "image", ["linux/amd64"])
    assert found["Config"] == [
        {"digest": str(config.digest), "media_type": config.media_type, "size": config.size}
    ]
    assert [(layer["digest"], layer["shared_with"]) for layer in found["Layers"]] == [
        (
            str(BASE.digest),
            ["ns/img:2.0", "ns/img:latest", "ns/list:1.0"],
        ),
        (str(COPY.manifest.layers[0].digest), ["ns/copy:1.0"]),
    ]
    assert [(r["digest"], r["artifact_type"]) for r in found["Referrers"]] == [
        (str(NOTE.digest), "application/vnd.example.sbom+json")
    ]
    assert (found["Complete"], found["Problems"]) == (True, [])


def test_by_digest_it_has_all_its_tags(run: Run) -> None:
    found = fields(run, f"ns/img@{TWO.digest}")
    assert found["Tags"] == ["2.0", "latest"]
    assert found["Own"] > 0
    assert fields(run, "ns/img:latest")["Own"] == 0
    # Its own names are no other images.
    assert found["Layers"][1]["shared_with"] == []


def test_a_list(run: Run) -> None:
    found = fields(run, "ns/list:1.0")
    assert [(m["digest"], m["platform"], m["present"]) for m in found["Manifests"]] == [
        (str(LIST.children[0].digest), "linux/arm64", True),
        (str(LIST.children[1].digest), "linux/riscv64", True),
    ]
    assert [layer["digest"] for layer in found["Layers"]] == [str(BASE.digest)]
    assert fields(run, f"ns/img@{NOTE.digest}")["Subject"][0]["digest"] == str(ONE.digest)


def test_text_of_strangers(run: Run) -> None:
    found = fields(run, "odd/strange:1.0")
    assert found["Labels"] == {HOSTILE: HOSTILE, "plain": "text"}
    assert found["Annotations"] == {HOSTILE: HOSTILE}
    for form in ("table", "value", "shell"):
        result = run("show", "-f", form, "odd/strange:1.0")
        assert (result.status, result.err) == (0, "")
        assert "fake" in result.out
        assert not set("\x1b\r") & set(result.out)
        assert not any(line.startswith("ERROR") for line in result.out.splitlines())
    table = run("show", "odd/strange:1.0").out
    assert "\u202e" not in table
    assert "a\\x1b[31mred ERROR: fake\\u202e: a\\x1b[31mred ERROR: fake\\u202e" in table


@pytest.mark.parametrize("damage", ["missing", "short", "other"])
def test_what_makes_an_image_incomplete(run: Run, filled: Path, damage: str) -> None:
    (blob,) = filled.glob(f"v2/ns/copy/blobs/{COPY.manifest.layers[0].digest}*")
    content = blob.read_bytes()
    blob.unlink()
    if damage != "missing":
        blob.write_bytes(content[:-1] + b"" if damage == "short" else b"x" * len(content))
    plain, verified = run("show", "ns/copy:1.0"), run("show", "--verify", "ns/copy:1.0")
    assert plain.status == (0 if damage == "other" else 1)
    assert verified.status == 1
    name, _, problem = verified.err.partition(f"blob {COPY.manifest.layers[0].digest}: ")
    assert name == "ERROR: ns/copy:1.0: "
    assert problem.startswith({"missing": "it is missing", "short": "it has"}.get(damage, "its"))
    assert "| Complete      | no" in verified.out
    assert fields(run, "--verify", "ns/img:1.0")["Complete"]


def test_an_image_of_a_list_may_be_missing(run: Run, filled: Path) -> None:
    with LocalExportDriver(filled) as driver:
        trees.put(driver, sparse_index())
    result = run("show", "-f", "json", "odd/sparse:1.0")
    found = json.loads(result.out)
    assert (result.status, found["Complete"]) == (1, False)
    assert [member["present"] for member in found["Manifests"]] == [True, False]
    assert "(linux/riscv64) is missing" in result.err


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("ns/img:3.0", "no such image: ns/img:3.0"),
        ("no/such:1.0", "no such image: no/such:1.0"),
        (f"ns/copy@{LIST.digest}", f"no such image: ns/copy@{LIST.digest}"),
        ("ns/img", "neither a tag nor a digest in 'ns/img'"),
        ("../x:1", "not a repository name: '../x'"),
    ],
)
def test_no_such_image(run: Run, image: str, problem: str) -> None:
    result = run("show", image)
    assert (result.status, result.out, result.err) == (1, "", f"ERROR: {problem}\n")


def test_a_damaged_manifest(run: Run, filled: Path) -> None:
    (filled / f"v2/ns/copy/manifests/{COPY.digest}/index.json").write_text("{}")
    result = run("show", "ns/copy:1.0")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("ERROR: ns/copy:1.0: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("image", ["ns/img:1.0", "ns/list:1.0", "odd/artifact:1.0"])
def test_what_pulls_it(run: Run, filled: Path, tmp_path: Path, image: str) -> None:
    programs.require("skopeo")
    with listener.serving(filled) as served:
        pull = fields(run, "--host", served, "--plain-http", image)["Pull"]
        done = subprocess.run(
            shlex.split(pull["skopeo"]),
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path)},
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / image.partition(":")[0].rpartition("/")[2] / "index.json").exists()


def test_commands_name_where_it_is_served(run: Run) -> None:
    pull = fields(run, "--host", "registry.example:8787", "ns/img:1.0")["Pull"]
    assert pull == {
        "podman": "podman pull registry.example:8787/ns/img:1.0",
        "docker": "docker pull registry.example:8787/ns/img:1.0",
        "skopeo": "skopeo copy docker://registry.example:8787/ns/img:1.0 oci:img",
        "ctr": "ctr images pull registry.example:8787/ns/img:1.0",
    }
    assert list(fields(run, "odd/artifact:1.0")["Pull"]) == ["skopeo", "oras"]
    assert (
        "podman pull HOST:PORT/odd/strange" not in run("show", f"odd/strange@{STRANGE.digest}").out
    )
