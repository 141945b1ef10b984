# SPDX-License-Identifier: Apache-2.0
"""Results for programs: JSON and YAML of commands, and the options around them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import trees
from tests.support.checkout import PROJECT
from tests.support.commands import Run

# Each on a tree with one of everything, and the first keys of what it tells.
TELLING = {
    "gc": (["gc", "--dry-run"], {"dry_run", "garbage", "bytes_freed", "problems"}),
    "delete": (
        ["delete", "--dry-run", "alone:1.0"],
        {"deleted", "repositories", "bytes_freed"},
    ),
    "prune": (
        ["prune", "--dry-run", "--keep-newest", "1"],
        {"deleted", "repositories", "bytes_freed"},
    ),
    "export": (
        ["export", "{tmp}/carried", "alone"],
        {"images", "blobs", "bytes_blobs", "known", "bytes_known", "sparse", "problems"},
    ),
    "verify": (["verify", "alone"], {"ok", "findings", "notes", "fetch", "bytes_read"}),
}


def all_keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from all_keys(inner)


TABLES = {
    "list": (
        ["list", "alone"],
        "repository tag digest kind platforms size own shared age referrers elsewhere",
    ),
    "show": (
        ["show", "ns/multi:1.0"],
        "image tags digest media_type kind platforms elsewhere size own shared changed created "
        "config layers images referrers annotations labels pull complete notes",
    ),
    "drivers": (["drivers"], "name selected package version loads problem"),
}


@pytest.mark.parametrize("name", sorted(TABLES))
@pytest.mark.usefixtures("filled")
def test_keys_of_tables(run: Run, name: str) -> None:
    arguments, keys = TABLES[name]
    found = json.loads(run(*arguments, "-f", "json").out)
    first = found[0] if isinstance(found, list) else found
    assert list(first) == keys.split()
    told = yaml.safe_load(run(*arguments, "-f", "yaml").out)
    assert set(told[0] if isinstance(told, list) else told) == set(first)
    described = (PROJECT / "doc" / "source" / "commands.rst").read_text()
    assert [key for key in first if f"``{key}``" not in described] == []
    (only,) = json.loads(run("drivers", "-f", "json", "-c", "Selected").out)
    assert list(only) == ["selected"]


@pytest.mark.parametrize("name", sorted(TELLING))
@pytest.mark.usefixtures("filled")
def test_results_for_programs(run: Run, tmp_path: Path, name: str) -> None:
    arguments, keys = TELLING[name]
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    found = json.loads(run(*arguments, "-f", "json").out)
    assert keys <= found.keys()
    assert all(re.fullmatch(r"[a-z][a-z_]*", key) for key in all_keys(found))
    assert yaml.safe_load(run(*arguments, "--format", "yaml").out) == found
    assert run(*arguments).out[:1] != "{"


def test_what_a_deletion_tells(run: Run, filled: Path) -> None:
    plan = json.loads(run("delete", "--dry-run", "alone:1.0", "-f", "json").out)
    done = json.loads(run("delete", "alone:1.0", "-f", "json").out)
    assert (plan.pop("deleted"), done.pop("deleted")) == (False, True)
    assert plan == done
    (repository,) = done["repositories"]
    assert (repository["repository"], repository["images"]) == ("alone", ["alone:1.0"])
    assert repository["manifests"]
    assert done["bytes_freed"] == repository["bytes_freed"] > 0
    assert "alone" not in trees.catalog(filled)


@pytest.mark.usefixtures("filled")
def test_an_import_has_a_report(run: Run, tmp_path: Path) -> None:
    archive, report = tmp_path / "carried", tmp_path / "report.json"
    assert run("export", archive, "alone").status == 0
    assert run("delete", "alone:1.0").status == 0
    result = run("import", archive, "--report", report, "-f", "json")
    assert result.status == 0
    told = json.loads(result.out)
    assert (told["command"], told["status"]) == ("import", "succeeded")
    assert [image["status"] for image in told["images"]] == ["copied"]
    assert json.loads(report.read_text()) == told


@pytest.mark.usefixtures("filled")
def test_a_summary_also_when_quiet(run: Run, tmp_path: Path) -> None:
    archive = tmp_path / "carried"
    run("export", archive, "alone")
    assert run("-q", "import", archive).said == ""
    assert re.fullmatch(r"1 images, .* seconds\n", run("-q", "--summary", "import", archive).err)


def test_a_tree_of_the_environment(
    run: Run, full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGE_UPLOADER_ROOT", str(full))
    assert "alone" in run("list", "-f", "value", "-c", "Repository").out.split()
    empty = tmp_path / "empty"
    assert run("list", "--root", empty).err == (
        f"ERROR: no registry in {empty} (--root or IMAGE_UPLOADER_ROOT)\n"
    )
    archive, brought = tmp_path / "carried", tmp_path / "brought"
    assert run("export", archive, "alone").status == 0
    monkeypatch.setenv("IMAGE_UPLOADER_ROOT", str(brought))
    assert run("import", archive).status == 0
    assert trees.catalog(brought) == ["alone"]
    monkeypatch.setenv("IMAGE_UPLOADER_ROOT", "")
    assert run("list").status == 1
