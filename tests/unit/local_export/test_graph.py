# SPDX-License-Identifier: Apache-2.0
"""What cannot be read may need anything: every edge to it, and all that it may lead to, counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.maintenance.collect import Collector
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.reference import ImageRef, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import damages, trees
from tests.support.commands import Run

NAME = "ns/a"


def _image(text: str, tag: str | None = None, **fields: object) -> Image:
    return images.image(NAME, tag, [images.layer({"file": text.encode()})], oci=True, **fields)  # type: ignore[arg-type]


AMD64 = _image("amd64")
ARM64 = _image("arm64", architecture="arm64")
MULTI = images.index(NAME, "multi", [AMD64, ARM64], oci=True)
INNER = images.index(NAME, None, [AMD64, ARM64], oci=True)
OUTER = images.index(NAME, "outer", [INNER, _image("third")], oci=True)
OTHER = _image("other", "other")
SUBJECT = _image("subject", "subject")
REFERRER = images.artifact(
    NAME, None, "application/vnd.example", b"about", subject=SUBJECT.descriptor()
)
PINNED = _image("pinned")


def manifest_of(root: Path, digest: Digest, *, folder: bool = False) -> Path:
    path = root / f"v2/{NAME}/manifests/{digest}"
    return path if folder else path / "index.json"


def unname(root: Path, digest: Digest) -> None:
    """As tripleo-common leaves a child, and a tag that has moved what it was for."""
    (root / f"v2/{NAME}/manifests/.pin-{digest}.type-map").unlink()


# What is put, which manifest is damaged, and the images that it belongs to.
EDGES: dict[str, tuple[list[Image], Digest, tuple[str, ...]]] = {
    "default child": ([MULTI], AMD64.digest, ("ns/a:multi",)),
    "other child": ([MULTI], ARM64.digest, ("ns/a:multi",)),
    "index in an index": ([OUTER], INNER.digest, ("ns/a:outer",)),
    "child of an index in an index": ([OUTER], ARM64.digest, ("ns/a:outer",)),
    "index": ([OUTER], OUTER.digest, ("ns/a:outer",)),
    "subject": ([SUBJECT, REFERRER], SUBJECT.digest, ("ns/a:subject",)),
    "referrer": ([SUBJECT, REFERRER], REFERRER.digest, (f"ns/a@{REFERRER.digest}",)),
    "pin": ([PINNED], PINNED.digest, (f"ns/a@{PINNED.digest}",)),
}


def fill(root: Path, put: list[Image], *, pinned: bool = True) -> None:
    with LocalExportDriver(root) as driver:
        for image in [*put, OTHER]:
            trees.put(driver, image)
    if not pinned:
        for path in (root / f"v2/{NAME}/manifests").glob(".pin-*"):
            path.unlink()


def content(root: Path) -> set[Path]:
    """Every manifest and blob that is there."""
    top = root / f"v2/{NAME}"
    return {*(top / "manifests").glob("sha256:*"), *(top / "blobs").iterdir()}


def removing(run: Run) -> Iterator[tuple[str, ...]]:
    yield ("gc",)
    yield ("delete", "ns/a:other")
    yield ("prune", "--keep", "none:none", "--max-share", "1")
    yield ("verify", "--repair")


@pytest.mark.slow
@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("damage", damages.ALL)
@pytest.mark.parametrize("edge", EDGES)
def test_nothing_goes_that_could_be_needed(
    root: Path, edge: str, damage: Callable[[Path], None], pinned: bool
) -> None:
    put, damaged, names = EDGES[edge]
    if not pinned and edge in ("referrer", "pin") and damage is damages.empty:
        pytest.skip("a folder without content and name is what a killed put leaves")
    fill(root, put, pinned=pinned)
    before = content(root)
    damage(manifest_of(root, damaged))
    with LocalExportDriver(root) as driver, pytest.raises(errors.NeedUnknown) as caught:
        driver.delete(ImageRef(OTHER.repository, Tag("other")))
    (doubt,) = caught.value.doubts
    assert (doubt.images or (doubt.name,)) == names
    assert str(damaged) in str(caught.value)
    assert trees.tags(root, NAME) == sorted(str(i.tag) for i in put if i.tag)
    collector = Collector(tree := Tree(root))
    assert list(collector.collect()) == []
    assert [str(problem) for problem in collector.problems] == [
        str(errors.NeedUnknown(caught.value.doubts))
    ]
    found = Verification(tree).report().findings
    assert any(str(damaged) in str(f.path) and f.images == names for f in found)
    assert not any("leads to it" in f.problem or "needs it" in f.problem for f in found)
    tree.close()
    assert {path for path in before if "elsewhere" not in path.name} <= content(root)


@pytest.mark.slow
@pytest.mark.parametrize("edge", EDGES)
def test_repair_and_prune_leave_it_too_and_an_upload_heals(root: Path, run: Run, edge: str) -> None:
    put, damaged, names = EDGES[edge]
    fill(root, put)
    before = content(root)
    damages.flip(manifest_of(root, damaged))
    result = run("prune", "--keep", "none:none", "--max-share", "1")
    assert result.status == 1
    assert result.err.startswith("ERROR: ns/a is left as it is: ")
    assert "other" in trees.tags(root, NAME)
    status, output = run("verify", "--repair").both
    assert status == 1
    assert f"({', '.join(names)}): must be fetched again" in output
    assert content(root) == before
    assert run("delete", "ns/a:other").status == 1
    with LocalExportDriver(root) as driver:
        for image in put:
            trees.put(driver, image)
    assert run("gc").status == 0
    assert content(root) < before
    status, output = run("verify").both
    assert status == 0, output


@pytest.mark.slow
def test_a_put_alone_heals(root: Path) -> None:
    """Its bytes and all its names, whatever stands there."""
    for damage in (damages.flip, damages.empty):
        fill(root, [MULTI])
        damage(manifest_of(root, ARM64.digest))
        with LocalExportDriver(root) as driver:
            trees.put(driver, ARM64)
        assert Verification(Tree(root)).report().findings == ()
        folder = manifest_of(root, ARM64.digest, folder=True)
        for name in ("index.json", "manifest.oci-manifest"):
            assert (folder / name).read_bytes() == ARM64.manifest.content


# -- those who know what they do go on


@pytest.mark.slow
def test_by_digest_it_is_given_up(root: Path, run: Run) -> None:
    fill(root, [MULTI])
    damages.flip(manifest_of(root, ARM64.digest))
    status, output = run("delete", "ns/a:multi").both
    assert status == 1
    assert "ns/a:multi: deleted" in output
    assert f"delete {NAME}@{ARM64.digest} if nobody needs it" in output
    assert trees.tags(root, NAME) == ["other"]
    foreseen = run("delete", "--dry-run", f"{NAME}@{ARM64.digest}").both
    status, output = run("delete", f"{NAME}@{ARM64.digest}").both
    assert status == 0
    assert foreseen[1].replace("would go", "deleted") == output
    assert {path.name for path in content(root)} == {
        str(OTHER.digest),
        *(
            path.name
            for digest in OTHER.blobs
            for path in (root / "v2/ns/a/blobs").glob(f"{digest}*")
        ),
    }
    assert run("verify").status == 0


def test_what_an_index_lists_stays_though_it_is_deleted_by_digest(root: Path) -> None:
    fill(root, [MULTI])
    damages.flip(manifest_of(root, ARM64.digest))
    before = content(root)
    with LocalExportDriver(root) as driver, pytest.raises(errors.NeedUnknown) as caught:
        driver.delete(ImageRef(OTHER.repository, ARM64.digest))
    assert caught.value.deletion.manifests == ()
    assert content(root) == before


@pytest.mark.slow
def test_two_that_are_damaged_are_given_up_one_by_one(root: Path, run: Run) -> None:
    fill(root, [PINNED, SUBJECT])
    for damaged in (PINNED, SUBJECT):
        damages.flip(manifest_of(root, damaged.digest))
    assert run("delete", f"{NAME}@{PINNED.digest}").status == 1
    assert not manifest_of(root, PINNED.digest, folder=True).exists()
    assert run("delete", f"{NAME}@{SUBJECT.digest}").status == 0
    assert run("verify").status == 0


@pytest.mark.slow
def test_the_last_image_goes_whole(root: Path, run: Run) -> None:
    """Nothing is left that a damaged manifest could have to do with."""
    with LocalExportDriver(root) as driver:
        trees.put(driver, MULTI)
    damages.flip(manifest_of(root, ARM64.digest))
    assert run("delete", "ns/a:multi").status == 0
    assert not (root / "v2/ns").exists()
    assert run("verify").status == 0


@pytest.mark.slow
def test_what_a_killed_put_left_is_no_damage(root: Path, run: Run) -> None:
    fill(root, [MULTI])
    folder = manifest_of(root, Digest.of(b"never came"), folder=True)
    folder.mkdir()
    (folder / ".htaccess").write_text("half of it")
    status, output = run("gc").both
    assert status == 0, output
    assert not folder.exists()


def test_a_damaged_tag_keeps_what_it_may_lead_to(root: Path, run: Run) -> None:
    fill(root, [SUBJECT])
    type_map = root / "v2/ns/a/manifests/subject.type-map"
    type_map.unlink()
    type_map.write_text("torn")
    before = content(root)
    status, output = run("delete", "ns/a:other").both
    assert status == 1
    assert "upload ns/a:subject again" in output
    assert content(root) == before
    assert run("gc").status == 1
    assert content(root) == before
    assert run("delete", "ns/a:subject").status == 0
    assert not (root / "v2/ns").exists()


@pytest.mark.slow
def test_every_manifest_that_is_missing_names_its_image(root: Path) -> None:
    fill(root, [OUTER])
    folder = manifest_of(root, ARM64.digest, folder=True)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    report = Verification(Tree(root)).report()
    assert {f.images for f in report.findings if str(ARM64.digest) in str(f)} == {("ns/a:outer",)}
