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
    result = run("prune", "--keep-newest", "3", "--newest-by", "put")
    assert (result.status, result.err) == (0, "")
    assert left(root, "a") == ["v0", "v4", "v5"]
    assert left(root, "ns/b") == ["v3", "v4", "v5"]
    assert trees.problems(root) == []


def put_tags(root: Path, name: str, *tags: str) -> None:
    with LocalExportDriver(root) as driver:
        for tag in tags:
            trees.put(driver, images.image(name, tag, [images.layer({"is": tag.encode()})]))


@pytest.mark.parametrize("order", [[], ["--newest-by", "version"]])
def test_newest_is_by_version_unless_said_otherwise(run: Run, root: Path, order: list[str]) -> None:
    put_tags(root, "c", "1.10", "1.9", "2.0-rc1", "1.8", "1.10-alpine", "1.2-alpine", "latest")
    result = run("prune", "--keep-newest", "2", "--max-share", "0.9", *order, "c")
    assert (result.status, result.err) == (0, "")
    assert trees.tags(root, "c") == ["1.10", "1.10-alpine", "1.2-alpine", "1.9", "latest"]
    line, stay, _ = result.out.splitlines()
    assert line.startswith("c: 2 tags deleted, ")
    assert line.endswith(": 1.8, 2.0-rc1; newest: 1.10-alpine, 1.2-alpine, 1.10 and 1 more")
    assert stay == "Kept as well: 1 tag without a version (--newest-by)"


def created(tag: str, moment: str) -> Image:
    about = {"org.opencontainers.image.created": moment}
    return images.artifact("c", tag, "application/x", tag.encode(), annotations=about)


def test_newest_is_by_creation_where_that_is_asked_for(run: Run, root: Path) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, created("3", "2020-01-01T00:00:00Z"))
        trees.put(driver, created("2", "2024-01-01T00:00:00+02:00"))
        trees.put(driver, created("1", "2023-12-31T22:30:00.123456789Z"))
        for moment in ("yesterday", "2025-01-01", "9999-99-99T00:00:00Z"):
            trees.put(driver, created(f"odd-{len(moment)}", moment))
        child = images.image("c", None, [images.layer({"is": b"child"})])  # of January 2026
        trees.put(driver, images.index("c", "list", [child]))
    result = run("prune", "--keep-newest", "2", "--newest-by", "created", "--max-share", "1", "c")
    assert (result.status, result.err) == (0, "")
    assert trees.tags(root, "c") == ["1", "list", "odd-10", "odd-20", "odd-9"]
    assert "newest: list, 1\n" in result.out
    assert "Kept as well: 3 tags without a date of creation (--newest-by)\n" in result.out


def test_a_plan_fits_a_screen(run: Run, root: Path) -> None:
    for number in range(17):
        put_tags(root, f"many/{number:02}", "1", "2", "3", "4", "5")
    arguments = ["prune", "--keep-newest", "1", "--max-share", "0.9", "--dry-run", "many/*"]
    lines = run(*arguments).out.splitlines()
    assert len(lines) == 17
    assert all(line.startswith("many/") for line in lines[:15])
    assert ": 4 tags would go, " in lines[0]
    assert lines[0].endswith(": 1, 2, 3 and 1 more; newest: 5")
    assert lines[15].startswith("... and 8 tags of 2 more repositories, ")
    assert lines[15].endswith("(--all names them)")
    every = run(*arguments, "--all").out
    assert every.count(": would go\n") == 17 * 4
    assert "many/16:4: would go\n" in every
    assert every.splitlines()[-1] == lines[-1]


LIST = """
images:
- repository: registry.example.com/ns/b
  tags: {newest: 2}
- repository: registry.example.com/a
  tags: [v1, v9]
"""
SKOPEO = """
registry.example.com:
  images-by-semver:
    ns/b: ">= 4"
  images:
    a: ["v1"]
"""
UPLOAD = """
container_images:
- imagename: registry.example.com/a:v
  push_destination: 192.0.2.1:8787
  modify_append_tag: "1"
- imagename: registry.example.com/b:v4
  push_destination: 192.0.2.1:8787/ns
- registry.example.com/ns/b:v5
"""
REPORT = """{
  "schema_version": 1,
  "images": [
    {"source": "registry.example.com/x:v", "targets": ["192.0.2.1:8787/a:v1"]},
    {"source": "registry.example.com/ns/b:v4", "targets": ["ns/b:v4"]},
    {"source": "registry.example.com/ns/b:v5", "targets": []}
  ]
}
"""


@pytest.mark.parametrize("text", [LIST, SKOPEO, UPLOAD, REPORT], ids=str.split)
def test_every_list_that_others_know(run: Run, root: Path, tmp_path: Path, text: str) -> None:
    kept = tmp_path / "kept"
    kept.write_text(text)
    result = run("prune", "--keep-list", kept, "--max-share", "0.9")
    assert result.status == 0, result.err
    absent = [line for line in result.err.splitlines() if "v9" not in line]
    assert absent == []
    assert left(root, "a") == ["v1"]
    assert left(root, "ns/b") == ["v4", "v5"]


def test_names_that_begin_with_the_registry_are_kept(run: Run, root: Path, tmp_path: Path) -> None:
    put_tags(root, "registry.example.com/c", "v1", "v2")
    for text in (
        "images:\n- repository: registry.example.com/c\n  tags: [v1]\n",
        "registry.example.com/c:v1\n",
        "container_images:\n- registry.example.com/c:v1\n",
    ):
        kept = tmp_path / "kept"
        kept.write_text(text)
        where = "registry.example.com/c"
        result = run("prune", "--keep-list", kept, "--dry-run", "--all", where)
        assert (result.status, result.err) == (0, ""), text
        assert f"{where}:v2: would go" in result.out
        assert f"{where}:v1: would go" not in result.out


def test_what_is_unlisted_goes_and_nothing_else(run: Run, root: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("images:\n- repository: registry.example.com/a\n  tags: {newest: 1}\n")
    arguments = ["prune", "--keep-list", kept, "--unlisted"]
    assert run(*arguments, "--max-share", "0.3").status == 1
    assert left(root, "ns/b") == TAGS
    result = run(*arguments)
    assert (result.status, result.err) == (0, "")
    assert left(root, "a") == TAGS
    assert not (root / "v2/ns/b/manifests").exists()
    assert run("prune", "--unlisted", "--keep-newest", "1").status == 2


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
    foreseen = run("prune", "--keep-newest", "2", "ns/b", "--dry-run", "--all")
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


@pytest.mark.parametrize("more", [[], ["--all"]])
def test_a_dry_run_says_what_happens_then(run: Run, root: Path, more: list[str]) -> None:
    before = trees.served(root)
    foreseen = run("prune", "--keep-newest", "3", "--dry-run", *more)
    assert trees.served(root) == before
    done = run("prune", "--keep-newest", "3", *more)
    assert foreseen.out.replace("would go", "deleted") == done.out


def test_what_is_put_meanwhile_stays(run: Run, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = LocalExportDriver.from_conf.__func__  # type: ignore[attr-defined]

    def put_first(kind: type[LocalExportDriver], conf: object) -> LocalExportDriver:
        driver: LocalExportDriver = original(kind, conf)
        trees.put(driver, images.image("a", "v0", [images.layer({"is": b"new"})]))
        return driver

    monkeypatch.setattr(LocalExportDriver, "from_conf", classmethod(put_first))
    result = run("prune", "--keep-newest", "3", "--all")
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
    arguments = ["--keep-newest", "3", "--newest-by", "put", "--max-share", "1", "a"]
    assert run("prune", *arguments).status == 0
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
        ["--keep-newest", "1", "--newest-by", "name"],
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
