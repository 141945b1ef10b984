# SPDX-License-Identifier: Apache-2.0
"""Images of which some platforms were chosen, and what each command says of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.testing.images import Image
from tests.integration.runs.conftest import Cli, by_name
from tests.support import trees

pytestmark = pytest.mark.slow

NAME = "multi/oci"
NOTE = "sparse: 2 of 3 manifests were left out on purpose; 1 of 3 platforms are here: linux/arm64"


@pytest.fixture
def index() -> Image:
    return by_name(NAME)


@pytest.fixture
def sparse(cli: Cli, source: str) -> subprocess.CompletedProcess[str]:
    """The run that copied linux/arm64, where linux/riscv64 was asked for as well."""
    done = copy(cli, source, "linux/arm64,linux/riscv64", "--metrics", cli.folder / "m.prom")
    assert done.returncode == 0, done.stderr
    return done


def copy(cli: Cli, source: str, platforms: str, *more: object) -> subprocess.CompletedProcess[str]:
    file = cli.images(source, by_name(NAME))
    return cli.upload(file, "--platform", platforms, *more)


def fields(cli: Cli, *arguments: object) -> Any:
    done = cli.run(*arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_run_names_what_is_missing(
    cli: Cli, index: Image, sparse: subprocess.CompletedProcess[str]
) -> None:
    warning, line, total = sparse.stderr.splitlines()
    there = "linux/amd64, linux/arm64, linux/s390x"
    assert warning == f"WARNING: {NAME}:1.0: no image for linux/riscv64, just for {there}"
    assert line.endswith(", nothing for linux/riscv64")
    assert total.endswith("; missing: 1 platform")
    report = cli.report()
    assert report["status"] == "succeeded"
    (image,) = report["images"]
    assert (image["status"], image["digest"]) == ("copied", str(index.digest))
    assert image["missing_platforms"] == ["linux/riscv64"]
    assert {child["platform"]: (child["status"], child["why"]) for child in image["children"]} == {
        "linux/amd64": ("skipped", "for another platform"),
        "linux/arm64": ("copied", None),
        "linux/s390x": ("skipped", "for another platform"),
    }
    metrics = (cli.folder / "m.prom").read_text()
    assert 'image_uploader_last_run_missing_platforms{command="upload"} 1.0' in metrics


@pytest.mark.usefixtures("sparse")
def test_a_run_without_any_of_the_platforms_fails(cli: Cli, source: str) -> None:
    done = copy(cli, source, "linux/riscv64")
    assert done.returncode == 1
    assert "no image for linux/riscv64, just for linux/amd64, linux/arm64" in done.stderr
    assert cli.report()["images"][0]["status"] == "failed"


@pytest.mark.usefixtures("sparse")
def test_commands_say_what_is_here_and_what_is_not(cli: Cli) -> None:
    (row,) = fields(cli, "list", "-f", "json")
    assert (row["platforms"], row["elsewhere"]) == (["linux/arm64"], ["linux/amd64", "linux/s390x"])
    assert cli.run("list", "-f", "value").stdout.endswith(" linux/amd64 linux/s390x\n")
    shown = fields(cli, "show", "-f", "json", "--verify", f"{NAME}:1.0")
    assert (shown["complete"], shown["notes"]) == (True, [NOTE])
    assert shown["platforms"] == ["linux/arm64"]
    assert shown["elsewhere"] == ["linux/amd64", "linux/s390x"]
    assert [(child["present"], child["left_out"]) for child in shown["images"]] == [
        (False, True),
        (True, False),
        (False, True),
    ]
    assert not [command for command in shown["pull"] if "--all" in command]
    table = cli.run("show", f"{NAME}:1.0").stdout
    assert table.count("  elsewhere") == 2
    assert "missing" not in table
    verified = fields(cli, "verify", "--json")
    assert (verified["ok"], verified["fetch"]) == (True, [])
    assert [note["text"] for note in verified["notes"]] == [NOTE]
    assert not trees.problems(cli.root)


@pytest.mark.usefixtures("sparse")
def test_upkeep_changes_nothing(cli: Cli) -> None:
    before = names(cli.root)
    for command in (["gc"], ["prune", "--keep-newest", "1", NAME], ["verify", "--repair"]):
        done = cli.run(*command)
        assert done.returncode == 0, done.stderr
        assert names(cli.root) == before


@pytest.mark.usefixtures("sparse")
def test_what_was_left_out_is_left_out_of_a_copy(cli: Cli, tmp_path: Path) -> None:
    archive = tmp_path / "carried.tar"
    exported = cli.run("export", archive)
    assert exported.returncode == 0
    assert "; of 1 image some platforms are not here" in exported.stderr
    other = tmp_path / "other"
    config = tmp_path / "other.conf"
    config.write_text(f"[local_export]\nroot = {other}\n")
    there = Cli(other, tmp_path, config)
    assert there.run("import", archive).returncode == 0
    assert names(other) == names(cli.root)
    verified = fields(there, "verify", "--json")
    assert [note["text"] for note in verified["notes"]] == [NOTE]


@pytest.mark.usefixtures("sparse")
def test_more_platforms_come_and_fewer_stay(cli: Cli, source: str, index: Image) -> None:
    assert copy(cli, source, "linux/amd64").returncode == 0
    assert copy(cli, source, "linux/arm64").returncode == 0
    assert cli.report()["images"][0]["status"] == "unchanged"
    (row,) = fields(cli, "list", "-f", "json")
    assert (row["platforms"], row["elsewhere"]) == (
        ["linux/amd64", "linux/arm64"],
        ["linux/s390x"],
    )
    # Who knows no index now gets the image for amd64.
    default = cli.root / "v2" / NAME / ".defaults/1.0"
    assert default.readlink().name == str(index.children[0].digest)
    assert copy(cli, source, "all").returncode == 0
    assert fields(cli, "verify", "--json")["notes"] == []
    assert not trees.problems(cli.root)


def test_all_tags_of_an_index_lead_to_the_same_default(cli: Cli, source: str, index: Image) -> None:
    for tag, platform in (("first", "linux/arm64"), ("1.0", "linux/amd64")):
        file = cli.images(source, f"{NAME}:1.0", modify_append_tag=f"-{tag}")
        assert cli.upload(file, "--platform", platform).returncode == 0
    assert fields(cli, "verify", "--json")["findings"] == []
    for tag in ("1.0-first", "1.0-1.0"):
        default = cli.root / "v2" / NAME / ".defaults" / tag
        assert default.readlink().name == str(index.children[0].digest)
    assert not trees.problems(cli.root)


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in (root / "v2").rglob("*")}
