"""What delete removes, what it spares, and that a dry run says just what it then does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from image_uploader_plugins.copying import size
from tests.commands.conftest import (
    BASE,
    LIST,
    NOTE,
    ONE,
    TWO,
    Run,
    content_bytes,
)
from tests.support import trees

IMAGES = [
    ["ns/img:1.0"],
    ["ns/img:2.0", "ns/img:latest", "ns/list:1.0"],
    [f"ns/img@{TWO.digest}"],
    [f"ns/img@{NOTE.digest}"],
    [f"ns/list@{LIST.digest}", "ns/img:1.0", "ns/copy:1.0"],
    ["odd/nested:1.0", "old/schema1:1.0", "old/schema1:1.0"],
]


@pytest.mark.parametrize("names", IMAGES, ids=lambda names: names[0][:14])
def test_a_dry_run_says_what_then_happens(run: Run, filled: Path, names: list[str]) -> None:
    before, bytes_before = trees.served(filled), content_bytes(filled)
    rehearsed = run("delete", "--dry-run", *names)
    assert (rehearsed.status, rehearsed.err) == (0, "")
    assert trees.served(filled) == before
    result = run("delete", *names)
    assert (result.status, result.err) == (0, "")
    assert result.out == rehearsed.out.replace("would go", "deleted")
    gone = [name for name in before if name.endswith("index.json")]
    gone = [name for name in gone if name not in trees.served(filled)]
    assert len(re.findall(r": manifest ", result.out)) == len(gone) > 0
    assert result.out.endswith(f", {size(bytes_before - content_bytes(filled))} freed\n")
    assert trees.problems(filled) == []
    assert run("verify").status == 0


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ("ns/img:3.0", "no such image: ns/img:3.0"),
        ("no/such:1.0", "no such image: no/such:1.0"),
        (f"ns/copy@{LIST.digest}", f"no such image: ns/copy@{LIST.digest}"),
        ("ns/img", "neither a tag nor a digest in 'ns/img'"),
        ("ns/img:*", "not a tag: '*'"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_nothing_goes_where_one_is_missing(
    run: Run, filled: Path, wrong: str, problem: str, more: list[str]
) -> None:
    before = trees.served(filled)
    result = run("delete", *more, "ns/img:1.0", wrong, "ns/copy:1.0")
    assert (result.status, result.out, result.err) == (1, "", f"ERROR: {problem}\n")
    assert trees.served(filled) == before


def test_what_others_need_stays(run: Run, filled: Path) -> None:
    child = LIST.children[0].digest
    result = run("delete", f"ns/list@{child}", "ns/img:latest")
    assert result.status == 0
    assert f"ns/list@{child}: stays, for others need it\n" in result.out
    assert result.out.endswith("1 image deleted, 0 B freed\n")
    assert run("show", "ns/list:1.0").status == run("show", "ns/img:2.0").status == 0
    assert trees.tags(filled, "ns/img") == ["1.0", "2.0"]
    run("delete", "ns/img:1.0", "ns/img:2.0")
    assert not list(filled.glob(f"v2/ns/img/blobs/{BASE.digest}*"))
    assert list(filled.glob(f"v2/ns/list/blobs/{BASE.digest}*"))


def test_a_whole_repository(run: Run, filled: Path) -> None:
    before = trees.served(filled)
    rehearsed = run("delete", "--all-tags", "--dry-run", "ns/img", "odd/nested")
    assert trees.served(filled) == before
    result = run("delete", "--all-tags", "ns/img", "odd/nested")
    assert (result.status, result.err) == (0, "")
    assert result.out == rehearsed.out.replace("would go", "deleted")
    for digest in (ONE.digest, TWO.digest, NOTE.digest):
        assert f"ns/img: manifest {digest}: deleted\n" in result.out
    assert not (filled / "v2/ns/img").exists()
    rest = {path for path in before if not path.startswith(("v2/ns/img/", "v2/odd/nested/"))}
    assert set(trees.served(filled)) == rest
    assert trees.problems(filled) == []


def test_a_repository_that_is_not_there(run: Run, filled: Path) -> None:
    before = trees.served(filled)
    for name, problem in (("no/such", "no such repository: no/such"), ("a:b", "not a repository")):
        result = run("delete", "--all-tags", "ns/img", name)
        assert (result.status, result.out) == (1, "")
        assert result.err.startswith(f"ERROR: {problem}")
    assert trees.served(filled) == before


def test_what_cannot_be_read_keeps_all(run: Run, filled: Path) -> None:
    (filled / f"v2/ns/img/manifests/{ONE.digest}/index.json").write_text("{}")
    blobs = sorted(filled.glob("v2/ns/img/blobs/*"))
    for more in (["--dry-run"], []):
        result = run("delete", *more, "ns/img:2.0")
        assert result.status == 1
        assert result.err.count("\n") == 1
        assert str(ONE.digest) in result.err
    assert sorted(filled.glob("v2/ns/img/blobs/*")) == blobs
    # The damaged image itself can go.
    assert run("delete", "ns/img:1.0").status == 0
