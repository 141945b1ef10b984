"""What list says of a tree, and that own is what a delete then frees."""

from __future__ import annotations

import collections
import csv
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_uploader_plugins.demo import images
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import inventory
from image_uploader_plugins.local_export.driver import LocalExportDriver
from image_uploader_plugins.local_export.patterns import Patterns
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.manifest import Manifest
from tests.commands.conftest import (
    HOSTILE,
    LIST,
    NOTE,
    ONE,
    STRANGE,
    TWO,
    Run,
    content_bytes,
    copied,
)
from tests.commands.test_uniform import PROGRAM
from tests.support import legacy, trees


def rows(run: Run, *arguments: str) -> list[dict[str, Any]]:
    result = run("list", "-f", "json", *arguments)
    assert (result.status, result.err) == (0, "")
    found: list[dict[str, Any]] = json.loads(result.out)
    return found


@pytest.mark.usefixtures("filled")
def test_each_tag_is_a_row_in_order(run: Run) -> None:
    found = [(r["Repository"], r["Tag"], r["Kind"], r["Platforms"]) for r in rows(run)]
    assert found == [
        ("ns/copy", "1.0", "image", ["linux/amd64"]),
        ("ns/img", "1.0", "image", ["linux/amd64"]),
        ("ns/img", "2.0", "image", ["linux/amd64"]),
        ("ns/img", "latest", "image", ["linux/amd64"]),
        ("ns/list", "1.0", "list", ["linux/arm64", "linux/riscv64"]),
        ("odd/artifact", "1.0", "artifact", []),
        ("odd/nested", "1.0", "list", ["linux/s390x"]),
        ("odd/strange", "1.0", "artifact", ["linux/amd64"]),
        ("old/schema1", "1.0", "schema 1", ["amd64"]),
    ]


@pytest.mark.usefixtures("filled")
def test_sizes_and_referrers(run: Run) -> None:
    one, two, latest = rows(run, "ns/img")
    whole = len(ONE.manifest.content) + sum(map(len, ONE.blobs.values()))
    assert one["Digest"] == str(ONE.digest)
    assert one["Size"] == whole == one["Own"] + one["Shared"]
    # The base is TWO's, too, and the other layer is in ns/copy.
    layers = sum(layer.size or 0 for layer in ONE.manifest.layers)
    assert one["Shared"] == layers
    assert one["Referrers"] == [str(NOTE.digest)]
    assert (two["Digest"], two["Own"]) == (latest["Digest"], latest["Own"]) == (str(TWO.digest), 0)


def test_own_is_what_a_delete_frees(filled: Path, tmp_path: Path) -> None:
    tree = Tree(filled)
    found = list(inventory.images(tree, Patterns([]), untagged=True))
    tree.close()
    assert {isinstance(image.ref.reference, Digest) for image in found} == {True, False}
    assert sum(image.own > 0 for image in found) == 8
    for number, image in enumerate(found):
        copy = copied(filled, tmp_path / str(number))
        before = content_bytes(copy)
        with LocalExportDriver(copy) as driver:
            assert driver.delete(image.ref).bytes_freed == image.own, image.ref
        assert before - content_bytes(copy) == image.own, image.ref
        shutil.rmtree(copy)


@pytest.mark.usefixtures("filled")
def test_all_lists_what_has_no_tag(run: Run) -> None:
    found = {(r["Repository"], r["Digest"]) for r in rows(run, "--all") if not r["Tag"]}
    assert ("ns/img", str(NOTE.digest)) in found
    assert {("ns/list", str(child.digest)) for child in LIST.children} <= found
    assert ("ns/list", str(LIST.digest)) not in found
    assert len(found) == len(set(found)) == 1 + 2 + 4


@pytest.mark.usefixtures("filled")
def test_formats(run: Run) -> None:
    listed = rows(run)
    assert yaml.safe_load(run("list", "-f", "yaml").out) == listed
    table = run("list").out
    assert " kB " in table
    assert TWO.digest.encoded[:12] in table
    assert str(TWO.digest) not in table
    flat = list(csv.DictReader(io.StringIO(run("list", "-f", "csv").out)))
    assert [row["Size"] for row in flat] == [str(row["Size"]) for row in listed]
    assert flat[4]["Platforms"] == "linux/arm64,linux/riscv64"
    assert listed[0]["Written"].endswith("Z")
    assert "second" in table


@pytest.mark.usefixtures("filled")
def test_sorting_keeps_the_order_of_equals(run: Run) -> None:
    plain = [(r["Kind"], r["Repository"], r["Tag"]) for r in rows(run)]
    found = [(r["Kind"], r["Repository"], r["Tag"]) for r in rows(run, "--sort-column", "Kind")]
    assert found == sorted(plain, key=lambda row: row[0])


@pytest.mark.usefixtures("filled")
def test_patterns(run: Run) -> None:
    def listed(*patterns: str) -> list[str]:
        return [f"{row['Repository']}:{row['Tag']}" for row in rows(run, *patterns)]

    assert listed("ns/img") == ["ns/img:1.0", "ns/img:2.0", "ns/img:latest"]
    assert listed("ns/*:1.0") == ["ns/copy:1.0", "ns/img:1.0", "ns/list:1.0"]
    assert listed("*:latest", "ns/c*") == ["ns/copy:1.0", "ns/img:latest"]
    assert [r["Digest"] for r in rows(run, f"ns/img@{NOTE.digest}")] == [str(NOTE.digest)]


@pytest.mark.usefixtures("filled")
def test_a_pattern_for_nothing_is_a_failure_beside_the_rest(run: Run, root: Path) -> None:
    result = run("list", "-f", "json", "ns/copy", "ns/\x1b[31m\n")
    assert result.status == 1
    assert [row["Repository"] for row in json.loads(result.out)] == ["ns/copy"]
    assert result.err == f"ERROR: no image 'ns/\\x1b[31m\\n' in {root}\n"


def test_what_cannot_be_read_is_a_row_and_an_error(run: Run, filled: Path) -> None:
    manifests = filled / "v2/ns/img/manifests"
    (manifests / str(ONE.digest) / "index.json").write_text("{}")
    (manifests / "latest.type-map").write_text("nonsense \x1b[31m")
    shutil.rmtree(filled / f"v2/ns/list/manifests/{LIST.digest}")
    result = run("list", "-f", "json", "ns/*")
    found = {f"{row['Repository']}:{row['Tag']}": row for row in json.loads(result.out)}
    assert result.status == 1
    damaged = {name for name, row in found.items() if row["Kind"] == "damaged"}
    assert damaged == {"ns/img:1.0", "ns/img:latest", "ns/list:1.0"}
    assert found["ns/img:2.0"]["Kind"] == "image"
    errors = result.err.splitlines()
    assert [line.split()[1] for line in errors] == [f"{name}:" for name in sorted(damaged)]
    assert "\x1b" not in result.err


def test_text_of_strangers_stays_in_its_cell(run: Run, filled: Path) -> None:
    platform = {"architecture": HOSTILE, "os": HOSTILE}
    child = images.image("odd/platform", None, [])
    content = {"manifests": [child.descriptor(platform=platform)], "schemaVersion": 2}
    manifest = Manifest.parse(
        json.dumps({**content, "mediaType": LIST.manifest.media_type}).encode()
    )
    with LocalExportDriver(filled) as driver:
        trees.put(driver, child)
        driver.put_manifest(
            child.repository, manifest.content, manifest.media_type, tag=STRANGE.tag
        )
    for form in ("table", "csv", "value"):
        result = run("list", "-f", form, "odd/platform")
        assert result.status == 0
        assert "fake" in result.out
        assert not set("\x1b\r\u202e") & set(result.out)
        assert not any(line.startswith("ERROR") for line in result.out.splitlines())


@pytest.mark.usefixtures("filled")
def test_each_manifest_is_read_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read: collections.Counter[tuple[str, Digest]] = collections.Counter()
    original = Repository.read_manifest

    def count(self: Repository, digest: Digest) -> Manifest:
        read[str(self.name), digest] += 1
        return original(self, digest)

    monkeypatch.setattr(Repository, "read_manifest", count)
    assert len(rows(run, "--all")) == len(read) + 1  # ns/img:latest is 2.0
    assert set(read.values()) == {1}


def test_looking_changes_nothing(run: Run, filled: Path) -> None:
    before = trees.served(filled)
    rows(run, "--all")
    run("show", "ns/img:1.0")
    assert trees.served(filled) == before
    assert [path for path in (filled / ".local-export/staging").rglob("*") if path.is_file()] == []


def test_a_tree_of_tripleo_common(run: Run, root: Path) -> None:
    legacy.write_image(root, ONE, "1.0")
    legacy.write_image(root, LIST, "1.0")
    legacy.write_symlink_tag(root, ONE, "old")
    (root / "v2/index.json").write_text("{}")
    found = rows(run)
    assert [(r["Repository"], r["Tag"], r["Kind"]) for r in found] == [
        ("ns/img", "1.0", "image"),
        ("ns/img", "old", "image"),
        ("ns/list", "1.0", "list"),
    ]
    assert found[2]["Own"] == found[2]["Size"]


@pytest.mark.usefixtures("filled")
def test_a_reader_that_leaves_in_the_middle_is_no_trouble(config: Path) -> None:
    command = [str(PROGRAM), "--config-file", str(config), "list", "--all", "-f", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_empty_tree_is_an_empty_list(run: Run, root: Path) -> None:
    LocalExportDriver(root).close()
    assert rows(run) == []
