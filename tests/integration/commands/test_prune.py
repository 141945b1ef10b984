# SPDX-License-Identifier: Apache-2.0
"""Pruning: what stays is what was said to stay, and too much at once is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import trees
from tests.support.commands import Run
from tests.support.content import referrer

TAGS = [f"v{number}" for number in range(6)]


def versions(name: str) -> list[Image]:
    return [images.image(name, tag, [images.layer({"is": (name + tag).encode()})]) for tag in TAGS]


A, B = versions("a"), versions("ns/b")
SIGNED_BY_TAG = f"{str(A[5].digest).replace(':', '-')}.sig"
ORPHANED = f"{str(A[0].digest).replace(':', '-')}.sig"


@pytest.fixture(scope="session")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prune") / "image-serve"
    with LocalExportDriver(root) as driver:
        for number, image in enumerate(A + B):
            trees.put(driver, image)
            path = root / f"v2/{image.repository}/manifests/{image.tag}.type-map"
            os.utime(path, (10**9 + number, 10**9 + number))
        signature = images.artifact("a", None, "application/x.sig", b"signature")
        trees.put(driver, signature, SIGNED_BY_TAG)
        trees.put(driver, signature, ORPHANED)
        sbom = referrer(A[5], "application/x.sbom", "sbom")
        trees.put(driver, sbom, "sbom")
        trees.put(driver, referrer(sbom, "application/x.sig", "signature of it"), "signed-sbom")
    return root


@pytest.fixture
def root(tmp_path: Path, pruned: Path) -> Path:
    trees.copy(pruned, tmp_path / "image-serve")
    return tmp_path / "image-serve"


def left(root: Path, name: str) -> list[str]:
    return [tag for tag in trees.tags(root, name) if tag.startswith("v")]


def test_the_newest_of_each_repository_stay(run: Run, root: Path) -> None:
    path = root / "v2/a/manifests/v0.type-map"
    os.utime(path, (2 * 10**9, 2 * 10**9))  # moved to other content just now
    result = run("prune", "--keep-newest", "3")
    assert (result.status, result.err) == (0, "")
    assert left(root, "a") == ["v0", "v4", "v5"]
    assert left(root, "ns/b") == ["v3", "v4", "v5"]
    assert trees.problems(root) == []


def test_tags_of_a_digest_stay(run: Run, root: Path) -> None:
    assert run("prune", "--keep", f"*@{B[2].digest}", "--max-share", "1", "ns/b").status == 0
    assert left(root, "ns/b") == ["v2"]


def test_what_refers_to_what_stays_stays_and_never_counts(run: Run, root: Path) -> None:
    assert run("prune", "--keep-newest", "1", "--max-share", "1", "a").status == 0
    assert sorted(trees.tags(root, "a")) == sorted(["v5", SIGNED_BY_TAG, "sbom", "signed-sbom"])
    assert trees.problems(root) == []


def test_what_refers_to_what_goes_goes(run: Run, root: Path) -> None:
    assert run("prune", "--keep", "a:v0", "--max-share", "1", "a").status == 0
    assert sorted(trees.tags(root, "a")) == sorted(["v0", ORPHANED])


def test_patterns_and_lists_add_up(run: Run, root: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text(f"# what runs\n\n192.0.2.1:8787/a:v1  # here\na@{A[2].digest}\nns/b:v9\n")
    arguments = ["prune", "--keep-list", str(kept), "--keep", "*:v5", "--max-share", "0.9"]
    result = run(*arguments)
    assert result.status == 0
    assert result.err == "WARNING: to be kept, and not there: ns/b:v9\n"
    assert left(root, "a") == ["v1", "v2", "v5"]
    assert left(root, "ns/b") == ["v5"]


def test_other_repositories_are_left_alone(run: Run, root: Path) -> None:
    assert run("prune", "--keep-newest", "3", "ns/*").status == 0
    assert left(root, "a") == TAGS
    assert left(root, "ns/b") == TAGS[3:]


def test_too_much_is_refused(run: Run, root: Path) -> None:
    before = trees.served(root)
    result = run("prune", "--keep-newest", "2", "ns/b")
    assert (result.status, result.out) == (1, "")
    assert result.err == (
        "ERROR: 4 of the 6 tags of ns/b would go, more than --max-share 0.5 allows: "
        "nothing is deleted\n"
    )
    assert trees.served(root) == before
    foreseen = run("prune", "--keep-newest", "2", "ns/b", "--dry-run")
    assert foreseen.status == 1
    assert "ns/b:v0: would go\n" in foreseen.out
    assert trees.served(root) == before
    assert run("prune", "--keep-newest", "2", "ns/b", "--max-share", "0.7").status == 0
    assert left(root, "ns/b") == ["v4", "v5"]


def test_too_much_of_the_tree_is_refused(run: Run, root: Path) -> None:
    """Of the 12 tags and 4 attachments in the tree, more than the share would go."""
    result = run("prune", "--keep-newest", "1", "--keep", "a:s*", "--max-share", "0.6")
    assert result.status == 1
    assert result.err.splitlines()[-1].startswith("ERROR: 10 of the 16 tags of the tree")
    assert left(root, "a") == TAGS


def test_a_dry_run_says_what_happens_then(run: Run, root: Path) -> None:
    before = trees.served(root)
    foreseen = run("prune", "--keep-newest", "3", "--dry-run")
    assert trees.served(root) == before
    done = run("prune", "--keep-newest", "3")
    assert foreseen.out.replace("would go", "deleted") == done.out


def test_what_is_put_meanwhile_stays(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = LocalExportDriver.from_conf.__func__  # type: ignore[attr-defined]

    def put_first(kind: type[LocalExportDriver], conf: object) -> LocalExportDriver:
        driver: LocalExportDriver = original(kind, conf)
        trees.put(driver, images.image("a", "v0", [images.layer({"is": b"new"})]))
        return driver

    monkeypatch.setattr(LocalExportDriver, "from_conf", classmethod(put_first))
    result = run("prune", "--keep-newest", "3")
    assert result.status == 0
    assert "a:v0" not in result.out
    assert left(root, "a") == ["v0", "v3", "v4", "v5"]
    assert left(root, "ns/b") == TAGS[3:]


def test_a_listed_image_keeps_the_list_it_is_in(run: Run, root: Path, tmp_path: Path) -> None:
    child = images.image("a", None, [images.layer({"child": b"child"})])
    with LocalExportDriver(root) as driver:
        trees.put(driver, images.index("a", "v9", [child]))
    kept = tmp_path / "kept"
    kept.write_text(f"a@{child.digest}\n")
    assert run("prune", "--keep-list", str(kept), "--max-share", "1", "a").status == 0
    assert left(root, "a") == ["v9"]
    assert (root / f"v2/a/manifests/{child.digest}").exists()


def test_what_refers_to_a_referrer_without_a_tag_stays(run: Run, root: Path) -> None:
    note = referrer(A[5], "application/x.note", "note")
    with LocalExportDriver(root) as driver:
        trees.put(driver, note)
        trees.put(driver, referrer(note, "application/x.sig", "of the note"), "signed-note")
    assert run("prune", "--keep-newest", "1", "--max-share", "1", "a").status == 0
    assert "signed-note" in trees.tags(root, "a")


def test_a_tag_that_looks_like_an_attachment_counts(run: Run, root: Path) -> None:
    """Tags may be hashes of builds; no manifest here has that digest."""
    tag = f"sha256-{'0' * 64}"
    with LocalExportDriver(root) as driver:
        trees.put(driver, images.image("a", tag, [images.layer({"is": b"a build"})]))
    assert run("prune", "--keep-newest", "3", "--max-share", "1", "a").status == 0
    assert tag in trees.tags(root, "a")
    assert left(root, "a") == ["v4", "v5"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a"],
        ["--keep-list", "/dev/null"],
        ["--keep-newest", "0"],
        ["--keep-newest", "-1"],
        ["--keep-newest", "1", "--max-share", "1.5"],
        ["--keep-newest", "1", "--max-share", "1e9"],
        ["--keep-newest", "1", "a:v1"],
        ["--keep", ""],
    ],
)
def test_nothing_to_keep_and_wrong_numbers(run: Run, root: Path, arguments: list[str]) -> None:
    before = trees.served(root)
    assert run("prune", *arguments).status == 2
    assert trees.served(root) == before


def test_a_list_that_cannot_be_read(run: Run, root: Path, tmp_path: Path) -> None:
    before = trees.served(root)
    kept = tmp_path / "kept"
    kept.write_text("a:v1\na\n")
    result = run("prune", "--keep-list", str(kept))
    assert (result.status, result.err) == (
        1,
        f"ERROR: {kept}, line 2: neither a tag nor a digest in 'a'\n",
    )
    kept.write_bytes(b"\xff")
    assert run("prune", "--keep-list", str(kept)).status == 1
    assert run("prune", "--keep-list", str(tmp_path / "absent")).status == 1
    assert run("prune", "--keep-newest", "1", "no/such").status == 1
    assert trees.served(root) == before


@pytest.mark.parametrize("damage", ["manifest", "tag"])
def test_a_repository_that_cannot_be_read_is_left_alone(run: Run, root: Path, damage: str) -> None:
    manifests = root / "v2/a/manifests"
    path = manifests / "v1.type-map"
    if damage == "manifest":
        path = manifests / str(A[1].digest) / "index.json"
    path.unlink()
    path.write_bytes(b"\xff")
    result = run("prune", "--keep-newest", "3")
    assert result.status == 1
    assert result.err.startswith("ERROR: a is left as it is: ")
    assert left(root, "a") == TAGS
    assert left(root, "ns/b") == TAGS[3:]
