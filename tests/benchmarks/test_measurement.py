# SPDX-License-Identifier: Apache-2.0
"""What one run takes, and the order of many."""

from __future__ import annotations

import hashlib
import io
import resource
import sys
import tarfile
import zlib
from pathlib import Path

import pytest
import requests

from benchmarks import data, measurement, proxy, trace
from benchmarks.measurement import Bench, Contender, MeasurementError, measure
from benchmarks.results import Case, Figures
from benchmarks.rows import large_layers
from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.registry import SourceRegistry

MB = 1000 * 1000

SUMMARY = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 50.00    0.000200           2       100        40 openat
 25.00    0.000100          10        10           fsync
 25.00    0.000100          10         6         2 unlinkat
------ ----------- ----------- --------- --------- ----------------
100.00    0.000400           3       116        42 total
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, lambda text: None)


def test_memory_is_that_of_the_command_alone(tmp_path: Path) -> None:
    """Linux would count what the process had that started it."""
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert measure(["true"], tmp_path)["memory"] < ours / 2
    large = measure([sys.executable, "-c", f"b'x' * {100 * MB}"], tmp_path)["memory"]
    assert large > 100 * MB


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"^ends with 3: no space in /a$"):
        measure(["sh", "-c", "echo begun; echo no space in $PWD/a; exit 3"], tmp_path)


def test_a_command_is_not_compiled_at_each_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (tmp_path / "imported.py").write_text("")
    measure([sys.executable, "-c", "import imported"], tmp_path)
    assert list(tmp_path.glob("__pycache__/imported.*.pyc"))


def test_contenders_alternate_and_those_that_fail_stop(bench: Bench) -> None:
    order = []

    def runs(name: str) -> Contender:
        def run(folder: Path) -> Figures:
            assert not any(folder.iterdir())
            (folder / "left").write_text("something")
            (folder / "large").write_bytes(bytes(MB))
            order.append(name)
            if name == "c":
                raise MeasurementError("broken")
            return {"seconds": len(order)}

        return Contender(name, run)

    contenders = [runs("a"), runs("b"), runs("c"), Contender("d", lambda _: {}, "not installed")]
    case = bench.compare(Case("Work", "a"), contenders, 3)
    assert "".join(order) == "abcbaab"
    assert [len(entry.runs) for entry in case.entries] == [3, 3, 0, 0]
    assert [entry.note for entry in case.entries] == ["", "", "broken", "not installed"]
    # Whoever runs next does not pay for many removed files, nor is the disk filled.
    assert {path.name for path in bench.folder.rglob("*") if path.is_file()} == {"left"}


def test_what_takes_long_runs_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "ENOUGH", 0)
    case = bench.compare(Case("Work", "a"), [Contender("a", lambda _: {"seconds": 1})], 3)
    assert len(case.entries[0].runs) == 1


def test_calls_are_read_from_the_table_of_strace() -> None:
    counts = trace.parsed(SUMMARY)
    assert counts == {"openat": 100, "fsync": 10, "unlinkat": 6}
    assert trace.grouped(counts, 2) == {
        **{"opens": 50, "flushes": 5, "locks": 0, "unlinks": 3, "renames": 0, "folders": 0},
        "calls": 58,
    }


def test_data_is_the_same_each_time_and_a_tar() -> None:
    layer = data.Layer("a", 3 * MB + 7)
    content = b"".join(data.tar(layer))
    assert content == b"".join(data.tar(layer))
    assert content != b"".join(data.tar(data.Layer("b", layer.size)))
    assert len(zlib.compress(content)) > layer.size
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert [member.size for member in archive] == [layer.size]


def test_a_deployment_shares_its_layers() -> None:
    plans = data.deployment([f"name-{number}" for number in range(150)])
    layers = {layer for plan in plans for layer in plan.layers}
    assert len(layers) == 3 + 15 + 2 * 150
    assert 380 * MB < sum(layer.size for layer in layers) < 400 * MB


def test_a_layer_that_does_not_fit_is_left_out() -> None:
    assert large_layers.fitting([10, 100], 301) == ([10, 100], [])
    sizes, (note,) = large_layers.fitting([10, 100], 300)
    assert sizes == [10]
    assert note.startswith("A layer of 100 MB is left out")


def test_a_proxy_counts_and_breaks_off() -> None:
    layer = images.Blob(bytes(2 * MB), "application/octet-stream")
    image = images.image("a", "1.0", [layer])
    traffic = proxy.Traffic(cuts=1, length=MB)
    with (
        web_server.serving(SourceRegistry([image])) as server,
        proxy.before(server, traffic) as address,
        requests.Session() as session,
    ):
        url = f"http://{address}/v2/a"
        session.head(f"{url}/manifests/1.0", timeout=30).raise_for_status()
        with pytest.raises(requests.RequestException):
            session.get(f"{url}/blobs/{layer.digest}", timeout=30)
        whole = session.get(f"{url}/blobs/{layer.digest}", timeout=30).content
    assert hashlib.sha256(whole).hexdigest() == layer.digest.encoded
    assert traffic.requests == {"HEAD manifests": 1, "GET blobs": 2}
    assert traffic.bytes == 3 * MB
