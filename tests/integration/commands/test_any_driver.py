# SPDX-License-Identifier: Apache-2.0
"""Commands where a driver of another package is configured, and a tree is there as well."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from stevedore.extension import ExtensionManager

from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.registry import SourceRegistry
from tests.support import trees
from tests.support.checkout import PROJECT
from tests.support.commands import Run

TREE_COMMANDS = {
    "export": ["carried"],
    "gc": [],
    "list": [],
    "prune": ["--keep-newest", "1", "--max-share", "1"],
    "serve": ["--print", "nginx"],
    "show": ["alone:1.0"],
    "verify": [],
}


@pytest.fixture
def layouts(config: Path, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of the example driver, which is configured; there is a tree with images, too."""
    layouts, site = tmp_path / "layouts", tmp_path / "site"
    info = site / "example-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[image_uploader_plugins.drivers]\n"
        "oci-layout = image_uploader_oci_layout.driver:OciLayoutDriver\n"
    )
    monkeypatch.setattr(
        sys, "path", [*sys.path, str(PROJECT / "examples" / "oci-layout"), str(site)]
    )
    monkeypatch.setattr(ExtensionManager, "ENTRY_POINT_CACHE", {})
    config.write_text(
        f"[image_uploader]\ndriver = oci-layout\n[oci_layout]\nroot = {layouts}\n"
        f"[local_export]\nroot = {filled}\n"
    )
    return layouts


@pytest.fixture
def imported(run: Run, layouts: Path, filled: Path, tmp_path: Path) -> Path:
    """The same root after two images were imported."""
    archive = str(tmp_path / "carried")
    assert run("export", "--root", str(filled), archive, "alone", "ns/img:2.0").status == 0
    result = run("import", archive)
    assert (result.status, result.out) == (0, "")
    return layouts


@pytest.mark.slow
@pytest.mark.usefixtures("layouts")
@pytest.mark.parametrize("name", TREE_COMMANDS)
def test_what_needs_a_tree_refuses_in_one_line(run: Run, filled: Path, name: str) -> None:
    before = trees.served(filled)
    result = run(name, *TREE_COMMANDS[name])
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        f"ERROR: {name} needs a tree of local-export, and the driver is 'oci-layout' "
        "([image_uploader] driver): name a tree with --root DIR\n"
    )
    assert trees.served(filled) == before


@pytest.mark.slow
@pytest.mark.usefixtures("layouts")
@pytest.mark.parametrize("name", TREE_COMMANDS)
def test_a_tree_that_is_named_is_worked_on_all_the_same(
    run: Run, filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(name, *TREE_COMMANDS[name], "--root", filled.name)
    assert result.status == 0
    assert not result.err.startswith("ERROR")
    words = {"serve": str(filled), "prune": "ns/img: 1 tag deleted, ", "verify": "All is well"}
    assert words.get(name, "") in result.out


@pytest.mark.parametrize("name", [*TREE_COMMANDS, "delete"])
def test_help_says_what_needs_a_tree(run: Run, name: str) -> None:
    text = " ".join(run(name, "--help").out.split())
    described, _, options = text.partition(" options: ")
    assert "tree of local-export" in described
    assert "--root DIR the directory that holds the tree of local-export" in options


@pytest.mark.usefixtures("layouts")
def test_a_named_directory_without_a_tree_is_no_mistake_of_the_options(
    run: Run, tmp_path: Path
) -> None:
    result = run("list", "--root", str(tmp_path))
    assert (result.status, result.out) == (1, "")
    assert result.err == f"ERROR: no registry in {tmp_path} (--root)\n"


def test_images_are_deleted_by_the_contract(run: Run, imported: Path, filled: Path) -> None:
    before = trees.served(filled)
    assert (imported / "ns+img" / "index.json").is_file()
    result = run("delete", "alone:1.0", "ns/img:2.0", "alone:1.0")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line for line in lines if line.endswith(": deleted")] == [
        "alone:1.0: deleted",
        "ns/img:2.0: deleted",
    ]
    assert lines[-1].startswith("2 images, 2 manifests, ")
    assert run("delete", "alone:1.0").err == "ERROR: alone: no such image: alone:1.0\n"
    assert trees.served(filled) == before


def test_one_that_cannot_be_deleted_keeps_none_of_the_others(run: Run, imported: Path) -> None:
    result = run("delete", "absent:1.0", "alone:1.0")
    assert result.status == 1
    assert result.err == "ERROR: absent: no such image: absent:1.0\n"
    assert "alone:1.0: deleted\n" in result.out
    assert result.out.splitlines()[-1].startswith("1 image, ")


@pytest.mark.parametrize("option", ["--dry-run", "--all-tags=ns/img"])
def test_what_a_driver_cannot_be_asked_is_refused(run: Run, imported: Path, option: str) -> None:
    result = run("delete", option, "alone:1.0")
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        f"ERROR: {option.partition('=')[0]} needs a tree of local-export, and the driver is "
        "'oci-layout' ([image_uploader] driver): name a tree with --root DIR\n"
    )
    assert (imported / "alone" / "index.json").is_file()
    assert run("delete", "alone:1.0").status == 0


def test_images_are_deleted_from_a_tree_that_is_named(
    run: Run, imported: Path, filled: Path
) -> None:
    result = run("delete", "--root", str(filled), "alone:1.0")
    assert (result.status, result.err) == (0, "")
    assert "alone" not in trees.catalog(filled)
    assert run("delete", "alone:1.0").status == 0  # it was still there, where the driver writes


def test_images_are_uploaded_to_the_configured_driver(
    run: Run, layouts: Path, filled: Path, tmp_path: Path
) -> None:
    before = trees.served(filled)
    image = images.image("edge/nova", "1.0", [images.layer({"file": b"one"})], oci=True)
    wanted = tmp_path / "images.yaml"
    with web_server.serving(SourceRegistry([image])) as source:
        entry = {"imagename": f"{source}/edge/nova:1.0", "push_destination": "localhost:8787"}
        wanted.write_text(yaml.safe_dump({"container_images": [entry]}))
        assert run("upload", str(wanted)).status == 0
    assert (layouts / "edge+nova" / "index.json").is_file()
    assert run("delete", "edge/nova:1.0").status == 0
    assert trees.served(filled) == before


def test_a_target_is_made_to_have_what_is_named(
    run: Run, layouts: Path, filled: Path, tmp_path: Path
) -> None:
    before = trees.served(filled)
    image = images.image("edge/nova", "1.0", [images.layer({"file": b"one"})], oci=True)
    with web_server.serving(SourceRegistry([image])) as source:
        name = f"{source}/edge/nova:1.0"
        lines = run("sync", "--plan", name).out.splitlines()
        assert lines[0] == "1 new, 0 changed, 0 unchanged, 0 failed, 0 to delete"
        assert re.fullmatch(r"at most \S+ \S+ to fetch, at most \S+ \S+ to store", lines[1])
        assert run("sync", name).status == 0
        assert (layouts / "edge+nova" / "index.json").is_file()
        wanted = tmp_path / "images.yaml"
        entry = {"repository": f"{source}/edge/nova", "tags": "all", "mirror": True}
        wanted.write_text(yaml.safe_dump({"images": [entry]}))
        result = run("sync", "-f", wanted)
    assert result.status == 1
    assert result.err == (
        f"ERROR: {wanted}:2: mirror: the driver 'oci-layout' does not list its tags, so none of "
        "them can be found to be unwanted\n"
    )
    assert trees.served(filled) == before
