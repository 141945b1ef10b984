# SPDX-License-Identifier: Apache-2.0
"""Medians, ratios, and what becomes of them: tables, JSON and a chart."""

from __future__ import annotations

import dataclasses
import json
from xml.etree import ElementTree

import pytest

import benchmarks.rows
from benchmarks import chart, report
from benchmarks.results import METRICS, Case, Entry, Result, Row
from tests.support.checkout import PROJECT

SVG = "{http://www.w3.org/2000/svg}"


def runs(*seconds: float, metric: str = "seconds") -> list[dict[str, float]]:
    return [{metric: value, "memory": 2e7} for value in seconds]


@pytest.fixture
def case() -> Case:
    entries = [
        Entry("image-uploader", runs(3, 1, 2)),
        Entry("<peer> & co", runs(9, 4, 7)),
        Entry("absent", note="not installed: apt-get install absent"),
        Entry("broken_", note="ends with 1: \\*no* `disk` |a_b_"),
    ]
    return Case("Copied", "image-uploader", entries=entries)


@pytest.fixture
def result(case: Case) -> Result:
    machine = {
        "processor": "a processor",
        "cores": 2,
        "memory": 4e9,
        "kernel": "6.1",
        "system": "Debian",
        "file system": "ext4",
        "load before": 0.25,
        "versions": {"curl": "7.88"},
    }
    settings = {"quick": False, "drop caches": False, "seconds": 77.0}
    rate = Case(
        "Served", "plain", "rate", ("p99",), entries=[Entry("plain", runs(5, metric="rate"))]
    )
    counts = Case("Counted", "ours", "flushes", (), is_charted=False, entries=[Entry("ours")])
    rows = [Row("copy", "Copying", [case], ["A sentence."]), Row("more", "More", [rate, counts])]
    return Result(machine, settings, rows)


def test_a_median_and_its_ratio_to_the_base(case: Case) -> None:
    ours, peer, absent, _ = case.entries
    assert (ours.median("seconds"), peer.median("seconds")) == (2, 7)
    assert case.ratio(peer) == 3.5
    assert case.to_limit(peer) is None
    assert dataclasses.replace(case, limit="<peer> & co").to_limit(ours) == 2 / 7
    assert absent.median("seconds") is None
    assert case.ratio(absent) is None
    assert Case("Copied", "absent", entries=case.entries).ratio(peer) is None


def test_the_table_has_every_contender_with_its_figures_or_its_note(case: Case) -> None:
    assert report.columns(case)[:4] == ["", "seconds", "from - to", "ratio"]
    lines = [report.cells(case, entry) for entry in case.entries]
    assert lines[0] == ["image-uploader", "2.00", "1.00 - 3.00", "", "", "20", "3"]
    assert lines[1] == ["<peer> & co", "7.00", "4.00 - 9.00", "3.50", "", "20", "3"]
    assert lines[2][:2] == ["absent", "not installed: apt-get install absent"]
    assert len({len(line) for line in lines}) == 1
    limited = dataclasses.replace(case, limit="<peer> & co")
    assert report.columns(limited)[3:5] == ["ratio", "to the limit"]
    assert [report.cells(limited, entry)[3:5] for entry in case.entries[:2]] == [
        *(["", "0.29"], ["3.50", ""])
    ]


@pytest.mark.parametrize("written", [report.text, lambda result: report.rst(result, None)])
def test_no_row_is_lost_in_a_table(result: Result, written: report.Writer) -> None:
    found = written(result)
    for row in result.rows:
        for text in (row.title, *row.notes, *(case.title for case in row.cases)):
            assert text in found
        for case in row.cases:
            assert [one.name for one in case.entries if one.name.strip("_") not in found] == []


def test_the_page_can_be_built(result: Result) -> None:
    core = pytest.importorskip("docutils.core")
    writers = pytest.importorskip("docutils.writers")
    text = report.rst(result, "_static/performance.svg")
    html = core.publish_string(
        text,
        writer=writers.get_writer_class("html5")(),
        settings_overrides={"halt_level": 2, "report_level": 5},
    ).decode()
    assert "&lt;peer&gt; &amp; co" in html
    assert r"ends with 1: \*no* `disk` |a_b_" in html
    assert 'src="_static/performance.svg"' in html


def test_json_has_the_figures_of_each_run(result: Result) -> None:
    found = json.loads(json.dumps(result.as_dict()))
    case = found["rows"][0]["cases"][0]
    assert [run["seconds"] for run in case["entries"][1]["runs"]] == [9, 4, 7]
    assert (case["entries"][1]["median"], case["entries"][1]["ratio"]) == (7, 3.5)
    assert [row["key"] for row in found["rows"]] == ["copy", "more"]
    assert found["machine"]["versions"] == {"curl": "7.88"}


def test_the_chart_has_a_bar_for_each_figure(result: Result) -> None:
    root = ElementTree.fromstring(chart.svg(result))  # noqa: S314
    bars = [float(bar.attrib["width"]) for bar in root.iter(f"{SVG}rect")]
    assert len(bars) == 3
    assert bars[0] / bars[1] == pytest.approx(2 / 7, abs=0.01)
    assert bars[1] == bars[2] < float(root.attrib["width"])
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert "<peer> & co" in texts
    assert "not installed: apt-get install absent" in texts
    assert "Copied: seconds" in texts
    assert not any("Counted" in text for text in texts)
    height = float(root.attrib["height"])
    assert all(float(text.attrib["y"]) < height for text in root.iter(f"{SVG}text"))


def test_the_chart_reads_well_on_light_and_on_dark_pages(result: Result) -> None:
    root = ElementTree.fromstring(chart.svg(result))  # noqa: S314
    style = root.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme: dark" in style


def test_each_module_of_a_row_is_run() -> None:
    folder = PROJECT / "benchmarks" / "rows"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    measured = {row.__module__.rpartition(".")[2] for row in benchmarks.rows.ROWS.values()}
    assert measured == modules


def test_figures_are_written_with_three_digits() -> None:
    write = METRICS["seconds"].write
    assert [write(value) for value in (0, 0.01234, 1.239, 12.345, 1234.5)] == [
        *("0", "0.012", "1.24", "12.35", "1,234")
    ]
