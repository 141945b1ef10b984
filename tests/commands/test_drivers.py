"""What drivers says of what is installed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins.cli.main import DISTRIBUTION
from tests.commands.test_uniform import PROGRAM

MODULE = """
raise ImportError("no such thing:\\n\x1b[31mred")
"""


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A package with a driver that cannot be imported, and one that is none."""
    folder = tmp_path / "others"
    info = folder / "others-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(
        "[image_uploader_plugins.drivers]\nbroken = broken_driver:Driver\nnone = json:dumps\n"
    )
    (folder / "broken_driver.py").write_text(MODULE)
    return folder


def drivers(others: Path, config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), "--config-file", str(config), "drivers", *more],
        env={**os.environ, "PYTHONPATH": str(others)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_installed(others: Path, config: Path) -> None:
    done = drivers(others, config, "-f", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, dict[str, Any]] = {row["Name"]: row for row in json.loads(done.stdout)}
    assert list(found) == ["broken", "local-export", "none"]
    ours = found["local-export"]
    assert (ours["Package"], ours["Selected"], ours["Loads"]) == (DISTRIBUTION, True, True)
    assert ours["Error"] == ""
    broken = found["broken"]
    assert (broken["Package"], broken["Version"], broken["Loads"]) == ("others", "1.5", False)
    assert broken["Error"].startswith("ImportError: no such thing: ")
    assert "\x1b" not in broken["Error"]
    assert found["none"]["Error"].startswith("TypeError: ")
    assert [row["Selected"] for row in found.values()] == [False, True, False]


@pytest.mark.parametrize("name", ["broken", "none", "absent"])
def test_the_selected_one_must_work(others: Path, config: Path, name: str) -> None:
    with config.open("a") as file:
        file.write(f"[image_uploader]\ndriver = {name}\n")
    done = drivers(others, config)
    assert done.returncode == 1
    assert "local-export" in done.stdout
    assert done.stderr.startswith(f"ERROR: cannot load driver '{name}' from ")
    assert done.stderr.count("\n") == 1


def test_one_name_for_two_drivers(others: Path, config: Path) -> None:
    (others / "others-1.5.dist-info" / "entry_points.txt").write_text(
        "[image_uploader_plugins.drivers]\nlocal-export = json:dumps\n"
    )
    done = drivers(others, config, "-f", "value", "-c", "Package")
    assert sorted(done.stdout.split()) == [DISTRIBUTION, "others"]
    assert done.returncode == 1
    assert "installed more than once" in done.stderr
