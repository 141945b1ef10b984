# SPDX-License-Identifier: Apache-2.0
"""One row from its data to its table, with small data and a real registry."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import workshop
from benchmarks.measurement import MeasurementError
from benchmarks.rows import ROWS
from tests.support import programs

MB = 1000 * 1000


@pytest.mark.slow
def test_a_row_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs.require("docker-registry")
    tiny = dataclasses.replace(workshop.QUICK, resumed=20)
    monkeypatch.setattr(program, "QUICK", tiny)
    files = {name: tmp_path / f"result.{name}" for name in ("json", "svg", "rst")}
    written = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    folders = ["--folder", str(tmp_path), "--data", str(tmp_path / "data")]
    status = program.main(["--quick", "--only", "resume", *folders, *written])
    assert status == 0, capsys.readouterr().err
    ((case,),) = [row["cases"] for row in json.loads(files["json"].read_text())["rows"]]
    ours = case["entries"][0]
    assert ours["name"] == "image-uploader upload"
    assert 1 <= ours["median"] <= 1.05
    assert "cut 5 times" in capsys.readouterr().out
    assert all(path.stat().st_size for path in files.values())
    assert {path.name for path in tmp_path.iterdir()} == {"data", *(p.name for p in files.values())}


def test_a_row_that_cannot_be_measured_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: workshop.Workshop) -> None:
        raise MeasurementError("no disk")

    monkeypatch.setitem(ROWS, "start", fails)
    status = program.main(["--quick", "--only", "start", "--folder", str(tmp_path)])
    assert status == 1
    assert "Not measured: no disk" in capsys.readouterr().out
