# SPDX-License-Identifier: Apache-2.0
"""Deleting images: what goes, what stays, and what is said of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.cli import progress
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from tests.integration.commands import content
from tests.support import trees
from tests.support.commands import Run

ABSENT = f"ns/img@sha256:{'0' * 64}"


def test_a_tag_and_what_it_alone_needs_go(run: Run, filled: Path) -> None:
    result = run("delete", "ns/img:2.0")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:2] == ["ns/img:2.0: deleted", f"  manifest {content.TWO.digest}"]
    assert re.fullmatch(r"1 image, 1 manifest, 2 blobs deleted, [\d.]+ k?B freed", lines[-1])
    assert trees.tags(filled, "ns/img") == ["1.0", "latest"]
    assert trees.problems(filled) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("delete", "alone:1.0", "--all-tags", "ns/multi"),
        ("prune", "--keep", "ns/img", "--max-share", "1", "--all", "alone", "ns/multi"),
    ],
    ids=["delete", "prune"],
)
def test_on_a_terminal_its_progress_is_shown(
    run: Run, filled: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    class Noting(progress.Display):
        """Draws nothing, and notes what it would show above which a result is written."""

        def __enter__(self) -> Noting:
            return self

        def __exit__(self, *_: object) -> None:
            shown.append("the end")

        @contextlib.contextmanager
        def above(self) -> Iterator[None]:
            shown.extend(self._lines())
            yield

    monkeypatch.setattr(progress, "on_terminal", lambda _stream: True)
    monkeypatch.setattr(progress, "Display", Noting)
    result = run(*arguments)
    assert result.status == 0, result.err
    steps = [line.partition(",")[0] for line in shown if line != "the end"]
    assert steps == [f"Went through {done} of 2 repositories" for done in range(2)]
    assert shown[-1] == "the end"


def test_by_digest_all_its_tags_go(run: Run, filled: Path) -> None:
    assert run("delete", f"ns/img@{content.ONE.digest}").status == 0
    assert trees.tags(filled, "ns/img") == ["2.0"]


def test_what_a_list_needs_stays(run: Run, filled: Path) -> None:
    child = f"ns/multi@{content.CHILDREN[1].digest}"
    result = run("delete", child)
    assert result.status == 0
    assert result.out.splitlines()[0] == f"{child}: stays, something else needs it"
    assert trees.tags(filled, "ns/multi") == ["1.0", "fewer"]
    assert trees.problems(filled) == []


def test_all_tags_of_a_repository(run: Run, filled: Path) -> None:
    assert run("delete", "--all-tags", "ns/multi", "--all-tags", "alone").status == 0
    assert "ns/multi" not in trees.catalog(filled)
    assert "alone" not in trees.catalog(filled)
    assert trees.problems(filled) == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["alone:2.0"], "no such image: alone:2.0"),
        ([ABSENT], f"no such image: {ABSENT}"),
        (["no/such:1"], "no such image: no/such:1"),
        (["--all-tags", "no/such"], "no tags in repository no/such"),
    ],
)
def test_one_that_is_missing_stops_all(
    run: Run, filled: Path, arguments: list[str], problem: str
) -> None:
    before = trees.served(filled)
    result = run("delete", "alone:1.0", *arguments)
    assert (result.status, result.out, result.err) == (1, "", f"ERROR: {problem}\n")
    assert trees.served(filled) == before


@pytest.mark.parametrize(
    "arguments", [[], ["alone"], ["../x:1"], ["alone:1.0", "--all-tags", "a/blobs"]]
)
def test_wrong_usage(run: Run, filled: Path, arguments: list[str]) -> None:
    before = trees.served(filled)
    result = run("delete", *arguments)
    assert (result.status, result.out) == (2, "")
    assert trees.served(filled) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["ns/img:1.0"],
        [f"ns/img@{content.TWO.digest}"],
        ["ns/img:1.0", "ns/img:latest", "ns/copy:1.0"],
        ["ns/multi:1.0", "ns/multi:arm", "alone:1.0", f"ns/img@{content.SIGNATURE.digest}"],
        ["--all-tags", "ns/img", "ns/copy:1.0", "--all-tags", "ns/multi"],
    ],
)
def test_a_dry_run_says_what_happens_then(
    run: Run, filled: Path, tmp_path: Path, arguments: list[str]
) -> None:
    trees.copy(filled, tmp_path / "before")
    before = trees.served(filled)
    foreseen = run("delete", "--dry-run", *arguments)
    assert (foreseen.status, foreseen.err) == (0, "")
    assert trees.served(filled) == before
    done = run("delete", *arguments)
    assert foreseen.out.replace("would go", "deleted") == done.out
    assert trees.served(filled) != before


def test_a_repository_that_cannot_be_read_keeps_none_of_the_others(run: Run, filled: Path) -> None:
    path = filled / "v2/ns/img/manifests" / str(content.TWO.digest) / "index.json"
    path.unlink()
    path.write_text("no json")
    arguments = ["alone:1.0", "ns/img:1.0", "ns/multi:1.0"]
    foreseen = run("delete", "--dry-run", *arguments)
    result = run("delete", *arguments)
    assert foreseen.out.replace("would go", "deleted") == result.out
    assert foreseen.err == result.err
    assert (foreseen.status, result.status) == (1, 1)
    assert re.fullmatch(r"ERROR: ns/img: .*index.json: content hashes to .*\n", result.err)
    assert "alone:1.0: deleted\n" in result.out
    assert "ns/multi:1.0: deleted\n" in result.out
    assert result.out.endswith("freed\n")
    assert "ns/img:1.0: deleted\n" in result.out  # the name, and nothing else
    assert "3 images, 2 manifests," in result.out


def test_several_cost_one(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tags of a repository go, its manifests are read once."""
    from image_uploader_plugins.local_export import garbage

    count = 0
    plan = garbage.plan

    def counting(*arguments: Any, **options: Any) -> garbage.Plan:
        nonlocal count
        count += 1
        return plan(*arguments, **options)

    monkeypatch.setattr(garbage, "plan", counting)
    with LocalExportDriver(filled) as driver:
        names = [content.ONE.tag, content.TWO.tag]
        driver.delete_all(content.ONE.repository, [name for name in names if name])
    assert count == 1
    assert trees.tags(filled, "ns/img") == ["latest"]
