# SPDX-License-Identifier: Apache-2.0
"""What the tree holds, as a list."""

from __future__ import annotations

import csv
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.graph import Inventory
from image_uploader_plugins.local_export.inventory import take_inventory
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.reports import holdings
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from tests.integration.commands import content
from tests.integration.commands.content import ALONE
from tests.support import trees
from tests.support.commands import Run
from tests.support.content import referrer


def listed(run: Run, *arguments: str) -> list[dict[str, Any]]:
    result = run("list", "-f", "json", *arguments)
    assert (result.status, result.err) == (0, "")
    rows: list[dict[str, Any]] = json.loads(result.out)
    return rows


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [f"{row['repository']}:{row['tag']}" for row in rows]


@pytest.mark.usefixtures("filled")
def test_each_tag_is_there_once_and_in_order(run: Run) -> None:
    rows = listed(run)
    assert names(rows) == [
        *("alone:1.0", "ns/chart:0.1", "ns/copy:1.0", "ns/hostile:1.0"),
        *("ns/img:1.0", "ns/img:2.0", "ns/img:latest"),
        *("ns/multi:1.0", "ns/multi:arm", "ns/multi:fewer"),
    ]
    kinds = {name: row["kind"] for name, row in zip(names(rows), rows, strict=True)}
    assert {name for name, kind in kinds.items() if kind == "list"} == {
        "ns/multi:1.0",
        "ns/multi:fewer",
    }
    assert kinds["ns/chart:0.1"] == "artifact"
    assert rows[4]["digest"] == str(content.ONE.digest)
    assert rows[4]["referrers"] == [str(content.SIGNATURE.digest)]
    assert rows[7]["platforms"] == ["linux/amd64", "linux/arm64"]
    assert rows[8]["platforms"] == ["linux/arm64"]


@pytest.mark.usefixtures("filled")
def test_a_tree_is_listed_alike_in_all_formats(run: Run) -> None:
    rows = listed(run)
    columns = [word for name in rows[0] if name != "age" for word in ("-c", name)]
    ageless = [{name: row[name] for name in row if name != "age"} for row in rows]
    assert yaml.safe_load(run("list", "-f", "yaml", *columns).out) == ageless
    flat = list(csv.DictReader(run("list", "-f", "csv").out.splitlines()))
    assert [f"{row['Repository']}:{row['Tag']}" for row in flat] == names(rows)
    assert [int(row["Size"]) for row in flat] == [row["size"] for row in rows]
    assert flat[7]["Platforms"] == "linux/amd64 linux/arm64"
    table = run("list", "--wide").out
    assert re.search(r"\| ([0-9]+ seconds?|[0-9]+ minutes?) +\|", table)
    assert f"| {str(content.ONE.digest)[:19]} |" in table
    assert " kB |" in table


@pytest.mark.usefixtures("filled")
def test_a_table_fits_a_terminal_unless_it_is_to_be_wide(run: Run) -> None:
    table = run("list").out.splitlines()
    assert table[1].replace("|", " ").split() == ["Repository", "Tag", "Size", "Age"]
    assert max(map(len, table)) <= 80
    rows = listed(run)
    assert len(table) == len(rows) + 4
    assert [line.split("|")[2].strip() for line in table[3:-1]] == [row["tag"] for row in rows]
    wide = run("list", "--wide").out.splitlines()
    assert wide[1].lower().replace("|", " ").split() == list(rows[0])
    by_size = run("list", "--sort-column", "own").out.splitlines()[3:-1]
    first = min(rows, key=lambda row: row["own"])["own"]
    assert by_size[0].split("|")[2].strip() in {r["tag"] for r in rows if r["own"] == first}
    for columns in (["Digest", "Kind", "Size"], ["tag", "own"], ["Platforms"], ["Referrers"]):
        chosen = [word for column in columns for word in ("-c", column)]
        found = json.loads(run("list", "-f", "json", *chosen).out)
        names = [column.lower() for column in columns]
        assert found == [{name: row[name] for name in names} for row in rows]


def test_no_name_is_broken_on_a_terminal(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "namespace/a-name-of-four-words"
    with LocalExportDriver(root) as driver:
        trees.put(driver, images.image(name, "1.0", [images.layer({"f": b"1"})]))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((30, 24)))
    assert f"| {name} | 1.0 |" in run("list").out
    for option in (["--fit-width"], ["--max-width", "30"]):
        assert name not in run("list", *option).out


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["ns/img"], ["ns/img:1.0", "ns/img:2.0", "ns/img:latest"]),
        (["*:1.0"], ["alone", "ns/copy", "ns/hostile", "ns/img", "ns/multi"]),
        (["*/i*:[12].0", "alone"], ["alone:1.0", "ns/img:1.0", "ns/img:2.0"]),
        (["ns/im?:latest"], ["ns/img:latest"]),
    ],
)
@pytest.mark.usefixtures("filled")
def test_patterns(run: Run, patterns: list[str], expected: list[str]) -> None:
    rows = listed(run, *patterns)
    assert names(rows) == [name if ":" in name else f"{name}:1.0" for name in expected]


@pytest.mark.usefixtures("filled")
def test_a_digest_is_listed_with_its_tags_or_without_any(run: Run) -> None:
    assert names(listed(run, f"*/img@{content.ONE.digest}")) == ["ns/img:1.0", "ns/img:latest"]
    (row,) = listed(run, "--all", f"ns/img@{content.SIGNATURE.digest}")
    assert (row["tag"], row["digest"]) == ("", str(content.SIGNATURE.digest))


@pytest.mark.usefixtures("filled")
def test_a_pattern_that_nothing_fits_is_an_error_after_the_list(run: Run) -> None:
    result = run("list", "-f", "value", "-c", "Repository", "alone", "ns/ing")
    assert (result.status, result.out) == (1, "alone\n")
    assert result.err == "ERROR: no image fits 'ns/ing'\n"
    assert run("list", "ns/img:").status == 2


@pytest.mark.slow
def test_own_is_what_a_delete_frees(run: Run, filled: Path, tmp_path: Path) -> None:
    with LocalExportDriver(filled) as driver:
        for image in content.MORE:
            trees.put(driver, image)
        trees.put(driver, referrer(content.MULTI, "application/x", "tagged"), "sbom")
    rows = listed(run, "--all")
    assert len(rows) > 18
    for number, row in enumerate(rows):
        copy = tmp_path / str(number)
        trees.copy(filled, copy)
        reference = Tag(row["tag"]) if row["tag"] else Digest(row["digest"])
        with LocalExportDriver(copy) as driver:
            freed = driver.delete(ImageRef(RepositoryName(row["repository"]), reference))
        assert row["own"] == freed.bytes_freed, row
        assert row["shared"] <= row["size"]
    by_name = dict(zip(names(rows), rows, strict=True))
    assert by_name["alone:1.0"]["shared"] == 0
    assert by_name["alone:1.0"]["own"] == by_name["alone:1.0"]["size"]
    assert by_name["ns/img:1.0"]["own"] == 0
    old = by_name["old/schema1:1.0"]
    blobs = sum(map(len, content.OLD.blobs.values()))
    assert old["size"] == len(content.OLD.manifest.content) + blobs
    assert old["kind"] == "schema 1"


def test_age_is_that_of_the_tags_file(run: Run, filled: Path) -> None:
    path = filled / "v2" / "alone" / "manifests" / "1.0.type-map"
    before = time.time() - 3 * 86400 - 5
    os.utime(path, (before, before))
    (row,) = listed(run, "alone")
    assert 3 * 86400 <= row["age"] < 3 * 86400 + 3600
    assert " 3 days " in run("list", "alone").out
    os.utime(path, (before * 2, before * 2))
    assert listed(run, "alone")[0]["age"] == 0


def test_what_is_damaged_is_listed_as_that(run: Run, filled: Path) -> None:
    manifests = filled / "v2" / "ns" / "img" / "manifests"
    content_path = manifests / str(content.TWO.digest) / "index.json"
    content_path.unlink()
    content_path.write_text("no json")
    (manifests / "latest.type-map").unlink()
    (manifests / "latest.type-map").write_bytes(b"\xff")
    result = run("list", "-f", "json", "ns/*")
    assert result.status == 1
    rows = dict(zip(names(found := json.loads(result.out)), found, strict=True))
    assert [name for name, row in rows.items() if row["kind"] == "damaged"] == [
        "ns/img:2.0",
        "ns/img:latest",
    ]
    assert rows["ns/img:1.0"]["kind"] == "image"
    assert len(result.err.splitlines()) == 2
    assert all(line.startswith("ERROR: ns/img:") for line in result.err.splitlines())


@pytest.mark.parametrize("style", ["table", "json", "yaml", "csv", "value"])
@pytest.mark.usefixtures("filled")
def test_nothing_that_a_terminal_obeys(run: Run, style: str) -> None:
    result = run("list", "--wide", "ns/hostile", "-f", style)
    assert result.status == 0
    assert all(line.isprintable() for line in result.out.splitlines())
    assert "forged" in result.out
    assert not any(line.startswith("ERROR") for line in result.out.splitlines())


def test_legacy_tags_are_listed(run: Run, filled: Path) -> None:
    manifests = filled / "v2" / "alone" / "manifests"
    (manifests / "1.0.type-map").unlink()
    (manifests / "1.0").symlink_to(str(content.ALONE.digest))
    (row,) = listed(run, "alone")
    assert (row["tag"], row["kind"]) == ("1.0", "image")
    assert row["age"] < 3600


def test_looking_changes_nothing(run: Run, filled: Path) -> None:
    before = trees.served(filled)
    run("list", "--all")
    assert trees.served(filled) == before


def test_a_tag_that_moves_meanwhile_is_not_damaged(
    run: Run, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tag moves after tags were read, and its old manifest goes before manifests are read."""
    moves = [images.image("alone", "1.0", [images.layer({"new": b"new"})])]

    def move_first(repository: Repository) -> Inventory:
        while moves and repository.name == ALONE.repository:
            with LocalExportDriver(filled) as driver:
                trees.put(driver, moves.pop())
                driver.delete(ImageRef(ALONE.repository, ALONE.digest))
        return take_inventory(repository)

    monkeypatch.setattr(holdings, "take_inventory", move_first)
    result = run("list", "-f", "value", "-c", "Kind", "alone")
    assert not moves
    assert (result.status, result.out, result.err) == (0, "image\n", "")
