"""What prune keeps, what goes with the rest, and what it refuses."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from image_uploader_plugins.demo import images
from image_uploader_plugins.demo.images import Image
from image_uploader_plugins.local_export.driver import LocalExportDriver
from image_uploader_plugins.local_export.patterns import Patterns
from image_uploader_plugins.local_export.pruning import Plan
from image_uploader_plugins.local_export.retention import Rule
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import RepositoryName
from tests.commands.conftest import Run, content_bytes
from tests.functional.content import referrer
from tests.support import trees

REPOSITORIES = ("ns/a", "ns/b", "other")


def image(name: str, tag: str) -> Image:
    return images.image(name, tag, [images.layer({name: tag.encode()})])


IMAGES = {f"{n}:{t}": image(n, t) for n in REPOSITORIES for t in ("v1", "v2", "v3", "v4")}


def date(root: Path, name: str, tag: str, seconds: int) -> None:
    os.utime(root / f"v2/{name}/manifests/{tag}.type-map", (seconds, seconds))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v4 is the oldest tag of each repository, v2 and v3 are of one age, v1 is the newest."""
    root = tmp_path_factory.mktemp("prune") / "image-serve"
    with LocalExportDriver(root) as driver:
        for made in IMAGES.values():
            trees.put(driver, made)
    for name in REPOSITORIES:
        for tag, age in (("v1", 4000), ("v2", 3000), ("v3", 3000), ("v4", 2000)):
            date(root, name, tag, age)
    return root


def left(root: Path) -> list[str]:
    return [f"{name}:{tag}" for name in trees.catalog(root) for tag in trees.tags(root, name)]


def keeping(*tags: str) -> list[str]:
    return [f"{name}:{tag}" for name in REPOSITORIES for tag in tags]


@pytest.mark.parametrize(("count", "kept"), [("2", ["v1", "v2"]), ("3", ["v1", "v2", "v3"])])
def test_the_newest_of_each_repository(run: Run, filled: Path, count: str, kept: list[str]) -> None:
    assert run("prune", "--keep-newest", count).status == 0
    assert left(filled) == keeping(*kept)
    assert trees.problems(filled) == []


def test_a_dry_run_says_what_then_happens(run: Run, filled: Path) -> None:
    before, size = trees.served(filled), content_bytes(filled)
    rehearsed = run("prune", "--keep-newest", "3", "--dry-run")
    assert (rehearsed.status, rehearsed.err) == (0, "")
    assert trees.served(filled) == before
    result = run("prune", "--keep-newest", "3")
    freed = size - content_bytes(filled)
    assert result.out == (
        "ns/a:v4: deleted\nns/b:v4: deleted\nother:v4: deleted\n"
        f"3 of 12 tags deleted: 3 manifests, 6 blobs, {freed / 1000:.1f} kB freed\n"
    )
    assert result.out == rehearsed.out.replace("would go", "deleted")
    assert run("verify").status == 0


def test_patterns_and_repositories(run: Run, filled: Path) -> None:
    keep = ["--keep", "*:v3", "--keep", "ns/b:v[14]"]
    assert run("prune", "--max-share", "0.75", *keep, "ns/*").status == 0
    assert left(filled) == [
        *("ns/a:v3", "ns/b:v1", "ns/b:v3", "ns/b:v4"),
        *keeping("v1", "v2", "v3", "v4")[8:],
    ]


def test_a_list(run: Run, filled: Path, tmp_path: Path) -> None:
    names = tmp_path / "in-use.txt"
    names.write_text(
        "# what runs\n\n192.168.24.1:8787/ns/a:v4  # oldest\nother\n"
        f"ns/b@{IMAGES['ns/b:v2'].digest}\nns/b:v1\nns/a:gone\n"
    )
    result = run("prune", "--max-share", "1", "--keep-list", str(names))
    assert result.status == 0
    assert result.err == "WARNING: no image 'ns/a:gone' to keep\n"
    assert left(filled) == [
        "ns/a:v4",
        "ns/b:v1",
        "ns/b:v2",
        *("other:v1", "other:v2", "other:v3", "other:v4"),
    ]


def test_a_list_from_standard_input(
    run: Run, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("ns/a:v1\nns/a:v3\n"))
    assert run("prune", "--keep-list", "-", "ns/a").status == 0
    assert left(filled)[:3] == ["ns/a:v1", "ns/a:v3", "ns/b:v1"]


@pytest.mark.parametrize("line", ["ns/a:", "ns/a:v1 ns/a:v2", "NS/A", "ns/a@sha256:1", "*:v1"])
def test_a_damaged_list_keeps_everything(run: Run, filled: Path, tmp_path: Path, line: str) -> None:
    names = tmp_path / "in-use.txt"
    names.write_text(f"ns/a:v1\n{line}\n")
    before = trees.served(filled)
    result = run("prune", "--max-share", "1", "--keep-list", str(names))
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"ERROR: {names}, line 2: ")
    assert trees.served(filled) == before


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n", b"\xff\n"])
def test_a_list_without_images_keeps_everything(
    run: Run, filled: Path, tmp_path: Path, content: bytes | None
) -> None:
    names = tmp_path / "in-use.txt"
    if content is not None:
        names.write_bytes(content)
    before = trees.served(filled)
    result = run("prune", "--max-share", "1", "--keep-list", str(names))
    assert (result.status, result.out, result.err.count("\n")) == (1, "", 1)
    assert str(names) in result.err
    assert trees.served(filled) == before


def test_a_digest_is_kept_by_no_pattern_for_tags(run: Run, filled: Path) -> None:
    assert run("prune", "--max-share", "1", "--keep", "*:?[0-9]*", "ns/a").status == 0
    assert trees.tags(filled, "ns/a") == ["v1", "v2", "v3", "v4"]
    assert (
        run("prune", "--max-share", "1", "--keep", "ns/a:v1", "--keep", "*:*0*", "ns/a").status == 0
    )
    assert trees.tags(filled, "ns/a") == ["v1"]


@pytest.mark.parametrize("tag", ["v1", "v4"])
def test_what_is_about_an_image_goes_and_stays_with_it(run: Run, filled: Path, tag: str) -> None:
    subject = IMAGES[f"ns/a:{tag}"]
    note = referrer(subject, "application/vnd.example.sbom+json", "about")
    about_note = referrer(note, "application/vnd.example.signature", "about that")
    signature = f"sha256-{subject.digest.encoded}.sig"
    free = images.artifact("ns/a", None, "application/vnd.example", b"of its own")
    with LocalExportDriver(filled) as driver:
        for more in (note, about_note, free):
            trees.put(driver, more)
        trees.put(driver, image("ns/a", "signature"), signature)
        trees.put(driver, referrer(subject, "application/vnd.example.b", "b"), "tagged")
    assert run("prune", "--keep-newest", "3", "--max-share", "0.8").status == 0
    stays = tag == "v1"
    companions = [signature, "tagged"] if stays else []
    assert trees.tags(filled, "ns/a") == sorted([*companions, "v1", "v2", "v3"])
    for part in (note, about_note):
        assert (filled / f"v2/ns/a/manifests/{part.digest}").exists() is stays
    assert (filled / f"v2/ns/a/manifests/{free.digest}").exists()
    assert trees.problems(filled) == []
    assert run("verify").status == 0


def test_a_digest_in_a_list_keeps_the_index_around_it(run: Run, filled: Path) -> None:
    child = images.image("ns/a", None, [images.layer({"c": b"c"})])
    index = images.index("ns/a", "multi", [child])
    with LocalExportDriver(filled) as driver:
        trees.put(driver, index)
    command = ["prune", "--max-share", "1", "--keep", f"ns/a@{child.digest}", "ns/a"]
    assert run(*command, "--keep", "*:v1").status == 0
    assert trees.tags(filled, "ns/a") == ["multi", "v1"]


def test_too_much_is_refused(run: Run, filled: Path) -> None:
    before = trees.served(filled)
    for more in ([], ["--dry-run"]):
        result = run("prune", "--keep-newest", "1", "--keep", "ns/*", *more)
        assert result.status == 1
        assert result.err == (
            "ERROR: refused, nothing is deleted: 3 of 4 tags of other would go, and --max-share "
            "allows 50% of a repository's; --max-share 1 allows all\n"
        )
        assert ("other:v4: would go" in result.out) is bool(more)
        assert trees.served(filled) == before
    assert run("prune", "--keep-newest", "1", "--keep", "ns/*", "--max-share", "0.75").status == 0
    assert left(filled) == [*keeping("v1", "v2", "v3", "v4")[:8], "other:v1"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--dry-run", "ns/a"],
        ["--keep-newest", "0"],
        ["--keep-newest", "x"],
        ["--keep-newest", "1", "--max-share", "1.5"],
        ["--keep-newest", "1", "--max-share", "nan"],
    ],
)
def test_wrong_usage(run: Run, filled: Path, arguments: list[str]) -> None:
    before = trees.served(filled)
    result = run("prune", *arguments)
    assert (result.status, result.out) == (2, "")
    assert re.search(r"nothing to keep|argument --", result.err)
    assert trees.served(filled) == before


def test_no_such_repository(run: Run, filled: Path) -> None:
    before = trees.served(filled)
    result = run("prune", "--keep-newest", "3", "ns/a", "no/*")
    assert (result.status, result.err) == (1, f"ERROR: no repository 'no/*' in {filled}\n")
    assert trees.served(filled) == before


@pytest.mark.parametrize("damaged", ["manifest", "tag"])
def test_what_cannot_be_read_keeps_its_repository(run: Run, filled: Path, damaged: str) -> None:
    manifests = filled / "v2/ns/a/manifests"
    path = manifests / f"{IMAGES['ns/a:v1'].digest}/index.json"
    (path if damaged == "manifest" else manifests / "v4.type-map").write_text("{}")
    result = run("prune", "--keep-newest", "3")
    assert result.status == 1
    assert result.err.startswith("ERROR: nothing is deleted beside it: ")
    assert left(filled) == [*keeping("v1", "v2", "v3", "v4")[:4], *keeping("v1", "v2", "v3")[3:]]


def test_what_is_put_meanwhile_stays(filled: Path) -> None:
    tree = Tree(filled)
    names = [RepositoryName(name) for name in REPOSITORIES]
    plan = Plan(tree, names, Rule(Patterns([]), Patterns([]), 2), 0.5)
    tree.close()
    with LocalExportDriver(filled) as driver:
        trees.put(driver, image("ns/a", "new"), "v4")
        done = list(plan.carry_out(driver))
    assert [str(name) for name, _ in done] == list(REPOSITORIES)
    assert left(filled) == ["ns/a:v1", "ns/a:v2", "ns/a:v4", *keeping("v1", "v2")[2:]]


def test_one_look_at_a_repository_however_many_go(
    run: Run, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = LocalExportDriver.delete_chosen
    monkeypatch.setattr(
        LocalExportDriver,
        "delete_chosen",
        lambda self, name, choose: calls.append(str(name)) or original(self, name, choose),
    )
    assert run("prune", "--keep-newest", "1", "--max-share", "1").status == 0
    assert calls == list(REPOSITORIES)
