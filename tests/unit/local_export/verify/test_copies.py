# SPDX-License-Identifier: Apache-2.0
"""A tree that was copied with links followed, and what is left out of images on purpose."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Remedy, Report, Verification, repair
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import legacy, trees
from tests.support.commands import Run

NAME = RepositoryName("ns/img")


def copy_following_links(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-rL", str(source), str(target)], check=True)


def copy_without_state(source: Path, target: Path) -> None:
    copy_following_links(source, target)
    shutil.rmtree(target / ".local-export")


def copy_without_links(source: Path, target: Path) -> None:
    """As upload tools and object stores do, for which a link is nothing."""
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    for path in target.rglob("*"):
        if path.is_symlink():
            path.unlink()


def copy_links_as_text(source: Path, target: Path) -> None:
    """As file systems without links do: a file that says where it would lead."""
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    for path in target.rglob("*"):
        if path.is_symlink():
            text = str(path.readlink())
            path.unlink()
            path.write_text(text)


def mend(root: Path) -> tuple[Report, Report]:
    """What there was to mend, and what is left."""
    tree = Tree(root)
    try:
        verification = Verification(tree)
        report = verification.report()
        return report, repair(verification, report)
    finally:
        tree.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "copy", [copy_following_links, copy_without_state, copy_without_links, copy_links_as_text]
)
def test_a_copy_is_as_the_tree_after_one_repair(
    filled: Path, root: Path, tmp_path: Path, copy: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "copy"
    copy(filled, target)
    before, after = mend(target)
    assert before.findings
    assert {finding.remedy for finding in before.findings} == {Remedy.REPAIR}
    assert after.findings == ()
    assert trees.served(target) == trees.served(filled)
    assert trees.problems(target) == []
    again, _ = mend(target)
    assert again.findings == ()
    with LocalExportDriver(target) as driver:
        trees.put(driver, images.image("ns/img", "new", [images.layer({"n": b"new"})]))
    assert Verification(Tree(target)).report().findings == ()


@pytest.mark.slow
def test_an_upload_into_a_copy_mends_the_lists_it_changes(filled: Path, tmp_path: Path) -> None:
    copy_following_links(filled, tmp_path / "copy")
    for root in (filled, tmp_path / "copy"):
        with LocalExportDriver(root) as driver:
            for name in ("ns/img", "ns/new"):
                trees.put(driver, images.image(name, "new", [images.layer({"n": b"new"})]))
    kept, copied = trees.served(filled), trees.served(tmp_path / "copy")
    lists = re.compile(r"v2/(\.catalog|ns/(img|new)/\.pages)/")
    assert {p: t for p, t in copied.items() if lists.match(p)} == {
        p: t for p, t in kept.items() if lists.match(p)
    }


def _folder_that_holds_something(path: Path) -> None:
    path.mkdir()
    (path / "within").write_text("x")


PLANTS: dict[str, Callable[[Path], object]] = {
    "a folder": _folder_that_holds_something,
    "a file": lambda path: path.write_text("x"),
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a pipe": os.mkfifo,
}


VIEWS = ("v2/ns/img/.tags/1.0", "v2/multi/oci/.defaults/1.0", "v2/ns/img/tags/list")
FOLDERS = ("v2/ns/img/tags", "v2/ns/img/.tags", "v2/ns/img/.referrers")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "plant"),
    [
        *((place, plant) for place in VIEWS for plant in PLANTS),
        *((place, plant) for place in FOLDERS for plant in PLANTS if plant != "a folder"),
    ],
)
def test_whatever_stands_in_the_place_of_a_view_gives_way(
    filled: Path, place: str, plant: str
) -> None:
    before = trees.served(filled)
    path = filled / place
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    PLANTS[plant](path)
    _, after = mend(filled)
    assert after.findings == ()
    assert trees.served(filled) == before


@pytest.mark.slow
@pytest.mark.parametrize("plant", ["a folder", "a link", "a pipe"])
def test_a_tag_whose_place_is_taken_is_found_by_its_link(filled: Path, plant: str) -> None:
    before = trees.served(filled)
    path = filled / "v2/ns/img/manifests/1.0.type-map"
    path.unlink()
    PLANTS[plant](path)
    findings = Verification(Tree(filled)).report().findings
    found = {
        f.remedy: f.images for f in findings if f.path == PurePosixPath(path.relative_to(filled))
    }
    assert found[Remedy.REPAIR] == ("ns/img:1.0",)
    _, after = mend(filled)
    assert after.findings == ()
    assert trees.served(filled) == before


@pytest.mark.slow
def test_content_never_gives_way(filled: Path) -> None:
    image = next(path for path in (filled / "v2/ns/img/manifests").glob("sha256:*"))
    for path in (image / "index.json", next((filled / "v2/ns/img/blobs").iterdir())):
        path.unlink()
        path.mkdir()
        (path / "mine").write_text("x")
        _, after = mend(filled)
        assert any(f.path == PurePosixPath(path.relative_to(filled)) for f in after.findings)
        assert (path / "mine").read_text() == "x"


def test_a_legacy_tag_that_has_become_a_folder(root: Path) -> None:
    image = images.image("ns/img", "old", [images.layer({"f": b"x"})])
    legacy.write_image(root, image, "old")
    (root / "v2/ns/img/manifests/old.type-map").unlink()
    legacy.write_symlink_tag(root, image, "old")
    copy_following_links(root, root.with_name("copy"))
    copy = root.with_name("copy")
    assert (copy / "v2/ns/img/manifests/old").is_dir()
    _, after = mend(copy)
    assert after.findings == ()
    assert trees.tags(copy, "ns/img") == ["old"]
    assert (copy / f"v2/ns/img/manifests/{image.digest}").exists()


@pytest.mark.slow
def test_no_manifest_is_looked_for_twice(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a repair takes grows with the tree, not with its square."""
    counts: dict[int, int] = {}
    look = Repository.read_manifest

    def count(many: int, root: Path) -> int:
        with LocalExportDriver(root) as driver:
            for number in range(many):
                layer = images.layer({"n": str(number).encode()})
                trees.put(driver, images.image("ns/many", f"v{number}", [layer]))
        copy = root.with_name(f"copy{many}")
        copy_following_links(root, copy)
        calls = 0

        def counting(self: Repository, *arguments: object) -> Manifest:
            nonlocal calls
            calls += 1
            return look(self, *arguments)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(Repository, "read_manifest", counting)
            mend(copy)
        return calls

    for many in (10, 40):
        counts[many] = count(many, filled.with_name(f"many{many}"))
    assert counts[40] < 5 * counts[10]


# -- what is left out on purpose


CHILDREN = [
    images.image("ns/img", None, [images.layer({"a": a.encode()})], architecture=a)
    for a in ("amd64", "arm64", "s390x")
]
INDEX = images.index("ns/img", "multi", CHILDREN)


def put_sparse(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, CHILDREN[0])
        content, media_type = INDEX.manifest.content, INDEX.manifest.media_type
        driver.put_manifest(NAME, content, media_type, tag=INDEX.tag)
        driver.leave_out(NAME, INDEX.digest, [child.digest for child in CHILDREN[1:]])


@pytest.mark.slow
def test_a_sparse_index_that_was_meant_is_a_note(root: Path, run: Run) -> None:
    put_sparse(root)
    status, output = run("verify").both
    note = (
        "sparse: 2 of 3 manifests were left out on purpose; 1 of 3 platforms are here: linux/amd64"
    )
    assert status == 0, output
    assert f"index.json: {note} (ns/img:multi)" in output
    status, output = run("verify", "--json").both
    assert status == 0
    assert json.loads(output)["notes"][0]["text"] == note
    status, output = run("show", "-f", "json", "ns/img:multi").both
    assert status == 0, output
    fields = json.loads(output)
    assert (fields["complete"], fields["notes"]) == (True, [note])


@pytest.mark.slow
def test_it_is_remembered(root: Path, run: Run) -> None:
    """By a repair, though another repository has what was left out; by a put; and by gc."""
    put_sparse(root)
    with LocalExportDriver(root) as driver:
        other = dataclasses.replace(CHILDREN[1], repository=RepositoryName("ns/other"))
        trees.put(driver, other, "1.0")
        content, media_type = INDEX.manifest.content, INDEX.manifest.media_type
        driver.put_manifest(NAME, content, media_type, tag=INDEX.tag)
    (root / "v2/ns/img/.tags/multi").unlink()
    assert run("verify", "--repair").status == 0
    assert not (root / f"v2/ns/img/manifests/{CHILDREN[1].digest}").exists()
    assert run("gc").status == 0
    assert "2 of 3 manifests" in run("verify").said


@pytest.mark.slow
def test_what_comes_after_all_is_missed_again(root: Path, run: Run) -> None:
    put_sparse(root)
    with LocalExportDriver(root) as driver:
        trees.put(driver, INDEX)
        driver.leave_out(NAME, INDEX.digest, [])
    assert "Note" not in run("verify").said
    shutil.rmtree(root / f"v2/ns/img/manifests/{CHILDREN[1].digest}")
    status, output = run("verify").both
    assert status == 1
    assert f"{CHILDREN[1].digest}/index.json: is missing, and an index lists it" in output


@pytest.mark.slow
def test_several_that_are_missing_are_told_once(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, INDEX)
    for child in CHILDREN[1:]:
        shutil.rmtree(root / f"v2/ns/img/manifests/{child.digest}")
    findings = [f for f in Verification(Tree(root)).report().findings if "missing" in f.problem]
    (finding,) = findings
    assert finding.problem.startswith("lists 2 manifests that are missing: sha256:")
    assert (finding.images, finding.remedy) == (("ns/img:multi",), Remedy.FETCH)


def _elsewhere() -> tuple[Image, Manifest]:
    image = images.image("ns/img", "1.0", [images.layer({"f": b"windows"})])
    fields = json.loads(image.manifest.content)
    fields["layers"][0]["urls"] = ["https://user:secret@layers.example/x?token=secret"]
    return image, Manifest.parse(json.dumps(fields).encode())


def test_layers_that_are_elsewhere_are_a_note(root: Path, run: Run) -> None:
    image, parsed = _elsewhere()
    assert parsed.config
    with LocalExportDriver(root) as driver:
        driver.upload_layer(NAME, [image.blobs[parsed.config.digest]])
        driver.put_manifest(NAME, parsed.content, parsed.media_type, tag=image.tag)
    note = "elsewhere: 1 of 1 layers are not in the tree; clients get them by their urls"
    status, output = run("verify").both
    assert status == 0
    assert f"{note} (ns/img:1.0)" in output
    assert "secret" not in output
    status, output = run("show", "-f", "json", "ns/img:1.0").both
    assert status == 0
    assert json.loads(output)["notes"] == [note]
    with LocalExportDriver(root) as driver:
        driver.upload_layer(NAME, [image.blobs[parsed.layers[0].digest]])
        driver.put_manifest(NAME, parsed.content, parsed.media_type, tag=image.tag)
    assert json.loads(run("show", "-f", "json", "ns/img:1.0").said)["notes"] == []


def test_an_upload_that_failed_is_told_once(root: Path, run: Run) -> None:
    blobs = [images.layer({"n": bytes([n])}).content for n in range(4)]
    with LocalExportDriver(root) as driver:
        for blob in blobs:
            driver.upload_layer(NAME, [blob])
        assert Verification(Tree(root)).report().findings == ()
        leases = list((root / ".local-export/leases").rglob("sha256:*"))
        for lease in leases:
            shutil.copy2(lease, root / "kept")
            os.utime(lease, (0, 0))
        status, output = run("verify", "--strict").both
        assert status == 1
        line, *rest = output.splitlines()
        size = 2 * sum(map(len, blobs)) // 2
        assert line == (
            f"v2/ns/img/blobs: 4 blobs ({size} bytes) of no image, as of an upload cut short: "
            "verify --repair mends it"
        )
        assert len(rest) == 1
        status, output = run("verify").both
        assert (status, output.count("\n")) == (0, 2)
        assert output.startswith("1 thing that nothing needs, ")
        assert run("gc").status == 0
    assert run("verify").status == 0
