# SPDX-License-Identifier: Apache-2.0
"""Which drivers are installed, and which of them work."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.commands import Run


def install(folder: Path, name: str, value: str) -> None:
    info = folder / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-package\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[image_uploader_plugins.drivers]\n{name} = {value}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    return folder


def test_ours(run: Run) -> None:
    result = run("drivers", "-f", "json")
    assert (result.status, result.err) == (0, "")
    (row,) = (row for row in json.loads(result.out) if row["name"] == "local-export")
    assert row["package"] == "image-uploader-plugins"
    assert (row["selected"], row["loads"], row["problem"]) == (True, True, "")


def test_those_that_do_not_work(run: Run, site: Path) -> None:
    install(site, "absent", "no_such_module:Driver")
    install(site, "wrong", "json:JSONDecoder")
    (site / "broken_driver.py").write_text("raise RuntimeError('no\\n\\x1b[31mgood')\n")
    install(site, "broken", "broken_driver:Driver")
    result = run("drivers", "-f", "json")
    assert result.status == 0
    rows = {row["name"]: row for row in json.loads(result.out)}
    assert rows["absent"]["package"] == "absent-package"
    assert rows["absent"]["version"] == "1.2"
    assert rows["absent"]["problem"] == "ModuleNotFoundError: No module named 'no_such_module'"
    assert rows["wrong"]["problem"] == "json:JSONDecoder is not an UploaderDriver"
    assert rows["broken"]["problem"] == "RuntimeError: no \\x1b[31mgood"
    assert not any(rows[name]["loads"] for name in ("absent", "wrong", "broken"))


def test_two_of_one_name(run: Run, site: Path) -> None:
    install(
        site,
        "local-export",
        "image_uploader_plugins.local_export.local_export_driver:LocalExportDriver",
    )
    result = run("drivers", "-f", "json")
    assert result.status == 1
    rows = [row for row in json.loads(result.out) if row["name"] == "local-export"]
    assert [row["problem"] for row in rows] == ["installed more than once"] * 2
    assert "ERROR: driver 'local-export' is selected and cannot be used" in result.err


def test_the_selected_one_is_missing(run: Run, config: Path) -> None:
    config.write_text("[image_uploader]\ndriver = elsewhere\n")
    result = run("drivers")
    assert (result.status, result.err) == (
        1,
        "ERROR: driver 'elsewhere' is selected and not installed\n",
    )
    assert "local-export" in result.out


@pytest.mark.slow
@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("absent", "no_such_module:Driver", "No module named 'no_such_module'"),
        ("local-export", "json:JSONDecoder", "installed more than once"),
    ],
)
def test_who_needs_it_says_so_once(
    run: Run,
    site: Path,
    config: Path,
    tmp_path: Path,
    name: str,
    value: str,
    reason: str,
) -> None:
    archive = tmp_path / "archive"
    assert run("export", str(archive), "alone").status == 0
    install(site, name, value)
    with config.open("a") as file:
        file.write(f"[image_uploader]\ndriver = {name}\n")
    # As installed: stevedore remembers what it has found in a process.
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = commands.process(config, "import", archive, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ERROR: cannot load driver '{name}' from ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
