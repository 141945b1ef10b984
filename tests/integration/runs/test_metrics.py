# SPDX-License-Identifier: Apache-2.0
"""--metrics: a textfile for node_exporter, read back with Prometheus' own parser."""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from image_uploader_plugins import demonstration, files
from image_uploader_plugins.driver import Census
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.runs import metrics
from image_uploader_plugins.runs.records import Ending, ImageRecord, RunRecord, Status, UpkeepRecord
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import corpus
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.integration.runs.conftest import SERVED_AT, Cli, by_name
from tests.support import trees
from tests.support.commands import Run

Sample = tuple[str, tuple[tuple[str, str], ...]]

COMMAND = {"command": "upload"}
SEVERITIES = ("damage", "garbage", "note")


def parsed(text: str) -> dict[Sample, float]:
    return {
        (sample.name.removeprefix("image_uploader_"), tuple(sorted(sample.labels.items()))): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    return parsed(text).get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "image_uploader.prom"


def ran(status: Ending = Ending.SUCCEEDED, command: str = "upload", ended: float = 9) -> RunRecord:
    record = ImageRecord("registry.example.com/img:1", "local-export", bytes_fetched=7)
    failed = status is not Ending.SUCCEEDED
    record.become(Status.FAILED if failed else Status.COPIED)
    return RunRecord(command, ended - 2, 2, status, None, (record,))


def kept(command: str = "verify", *, is_well: bool = True) -> UpkeepRecord:
    return UpkeepRecord(command, 7, 2, is_well, 5, {"damage": 1})


@pytest.mark.slow
def test_a_run_and_its_target(cli: Cli, source: str, file: Path) -> None:
    before = time.time()
    done = cli.run("upload", cli.images(source, *corpus(), multi_arch=True), "--metrics", file)
    assert done.returncode == 0, done.stderr
    after = time.time()
    text = file.read_text()
    blobs = {d: c for image in corpus() for part in image.walk() for d, c in part.blobs.items()}
    manifests = [part.manifest.content for image in corpus() for part in image.walk()]
    linked = sum(
        len(content) for content_of in _by_repository().values() for content in content_of.values()
    )
    distinct = sum(map(len, blobs.values()))
    assert value(text, "repositories") == len(corpus())
    assert value(text, "tags") == len(corpus())
    assert value(text, "blobs") == len(blobs)
    assert value(text, "stored_bytes") == distinct + sum(map(len, manifests))
    assert value(text, "shared_bytes") == linked - distinct
    assert value(text, "oldest_lease_age_seconds") == 0
    assert value(text, "last_run_fetched_bytes", **COMMAND) == distinct
    assert value(text, "last_run_success", **COMMAND) == 1
    assert value(text, "last_run_images", status="copied", **COMMAND) == len(corpus())
    assert value(text, "failures_total", **COMMAND) == 0
    ended = value(text, "last_success_timestamp_seconds", **COMMAND)
    assert ended == value(text, "last_run_timestamp_seconds", **COMMAND)
    assert ended and before <= ended <= after
    duration = value(text, "last_run_duration_seconds", **COMMAND)
    assert duration and 0 < duration <= after - before


def _by_repository() -> dict[str, dict[object, bytes]]:
    found: dict[str, dict[object, bytes]] = {}
    for image in corpus():
        for part in image.walk():
            found.setdefault(part.repository.value, {}).update(part.blobs.items())
    return found


@pytest.mark.slow
def test_the_last_success_outlives_a_failure(cli: Cli, source: str, file: Path) -> None:
    cli.run("upload", cli.images(source, by_name("base")), "--metrics", file)
    success = value(file.read_text(), "last_success_timestamp_seconds", **COMMAND)
    assert success
    cli.run("upload", cli.images(source, by_name("base"), "absent:1.0"), "--metrics", file)
    text = file.read_text()
    assert value(text, "last_success_timestamp_seconds", **COMMAND) == success
    assert (value(text, "last_run_timestamp_seconds", **COMMAND) or 0) > success
    assert value(text, "last_run_success", **COMMAND) == 0
    assert value(text, "failures_total", **COMMAND) == 1
    assert value(text, "last_run_images", status="failed", **COMMAND) == 1
    assert value(text, "last_run_images", status="unchanged", **COMMAND) == 1
    assert value(text, "repositories") == 1


def test_a_first_run_that_fails_has_no_success() -> None:
    text = metrics.text(ran(Ending.INTERRUPTED), None)
    assert value(text, "last_success_timestamp_seconds", **COMMAND) is None
    assert value(text, "failures_total", **COMMAND) == 1


def test_commands_keep_out_of_each_others_way() -> None:
    first = metrics.text(ran(command="prepare", ended=5), None)
    second = metrics.text(ran(Ending.FAILED, ended=9), None, first)
    assert value(second, "last_success_timestamp_seconds", command="prepare") == 5
    assert value(second, "last_run_success", command="prepare") == 1
    assert value(second, "last_run_images", command="prepare", status="copied") == 1
    assert value(second, "last_run_success", command="upload") == 0
    assert value(second, "last_run_images", command="upload", status="failed") == 1


def test_names_follow_prometheus_conventions() -> None:
    census = Census(1, 2, 3, 4, 5, 6.0)
    text = metrics.text(kept(), census, metrics.text(ran(), census))
    families = list(text_string_to_metric_families(text))
    assert len(families) == 16
    for family in families:
        assert re.fullmatch(r"image_uploader_[a-z]+(_[a-z]+)*", family.name)
        assert family.documentation.endswith(".")
        assert family.type == ("counter" if family.name.endswith("failures") else "gauge")
        assert f"# HELP {family.samples[0].name} " in text
    names = {name for name, _ in parsed(text)}
    assert not {name for name in names if re.search(r"(milli|kilo|minutes|_total_)", name)}
    # No name twice: node_exporter would refuse the file.
    lines = [line.partition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def test_drivers_that_do_not_count_have_fewer_metrics(tmp_path: Path) -> None:
    assert MemoryDriver(str(tmp_path)).census() is None
    text = metrics.text(ran(), None)
    assert {name for name, _ in parsed(text)} == {
        "last_run_timestamp_seconds",
        "last_run_duration_seconds",
        "last_run_success",
        "last_run_fetched_bytes",
        "last_run_missing_platforms",
        "last_run_images",
        "last_success_timestamp_seconds",
        "failures_total",
    }


def test_the_oldest_lease(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        assert driver.census().oldest_lease is None
        for name in ("one", "two"):
            layer = images.layer({name: b"content"})
            repository = by_name("base").repository
            driver.upload_layer(repository, [layer.content], expected=layer.digest)
        first, second = sorted((root / ".local-export" / "leases").rglob("*.*"))
        os.utime(first, (1000, 1000))
        os.utime(second, (2000, 2000))
        assert driver.census().oldest_lease == 1000


def test_copies_where_links_are_refused_save_nothing(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, by_name("base"))
        before = driver.census()
        (blob,) = (root / "v2" / "base" / "blobs").glob("*.gz")
        content = blob.read_bytes()
        blob.unlink()
        blob.write_bytes(content)
        after = driver.census()
    assert before.bytes_shared == after.bytes_shared == 0
    assert after.bytes_stored == before.bytes_stored + len(content)


@pytest.mark.slow
def test_a_target_that_cannot_be_counted_leaves_the_metrics_of_the_run(
    cli: Cli, source: str, file: Path
) -> None:
    cli.root.write_text("no folder")
    done = cli.run("upload", cli.images(source, by_name("base")), "--metrics", file)
    assert done.returncode == 1
    assert "WARNING: no metrics of the target: " in done.stderr
    text = file.read_text()
    assert value(text, "last_run_success", **COMMAND) == 0
    assert value(text, "repositories") is None


@pytest.mark.slow
def test_an_earlier_file_that_makes_no_sense(cli: Cli, source: str, file: Path) -> None:
    file.write_bytes(b'image_uploader_failures_total{command="\xff 1\n')
    done = cli.run("upload", cli.images(source, by_name("base")), "--metrics", file)
    assert done.returncode == 0
    assert f"WARNING: {file}: begun anew" in done.stderr
    assert value(file.read_text(), "failures_total", **COMMAND) == 0


@pytest.mark.slow
def test_other_names_are_refused(cli: Cli, source: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.txt"
    done = cli.run("upload", cli.images(source, by_name("base")), "--metrics", path)
    assert done.returncode == 2
    assert f"--metrics {path}: the name must end in .prom" in done.stderr
    assert not cli.root.exists()


@pytest.mark.slow
def test_a_dry_run_has_no_metrics(cli: Cli, tmp_path: Path, file: Path) -> None:
    environment = tmp_path / "environment.yaml"
    entry = {"push_destination": demonstration.SERVED_AT, "set": {"namespace": SERVED_AT}}
    environment.write_text(
        yaml.safe_dump({"parameter_defaults": {"ContainerImagePrepare": [entry]}})
    )
    done = cli.run("prepare", "--dry-run", "-e", environment, "--metrics", file)
    assert done.returncode == 2
    assert "--metrics is for runs that copy" in done.stderr


@pytest.mark.slow
def test_the_file_is_for_other_users_too(cli: Cli, source: str, file: Path) -> None:
    """node_exporter has a user of its own, who must be able to read the file."""
    cli.run("upload", cli.images(source, by_name("base")), "--metrics", file)
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in file.parent.glob("*.prom*")] == [file.name]


@pytest.mark.parametrize("name", ["gc", "verify", "prune"])
def test_upkeep_and_its_target(run: Run, root: Path, file: Path, name: str) -> None:
    """What was freed, what was found, and whether a person is needed."""
    with LocalExportDriver(root) as driver:
        for tag in ("1.0", "2.0"):
            trees.put(driver, images.image("img", tag, [images.layer({tag: tag.encode()})]))
        trees.put(driver, images.image("img", "1.0", [images.layer({"moved": b"moved"})]))
    command = [name, *(["--keep", "img:2.0"] if name == "prune" else []), "--metrics", file]
    file.write_text(metrics.text(ran(), None))
    assert run(*command).status == 0
    text = file.read_text()
    assert value(text, "last_run_success", command=name) == 1
    assert value(text, "last_success_timestamp_seconds", command=name)
    assert value(text, "failures_total", command=name) == 0
    assert value(text, "last_run_success", **COMMAND) == 1  # of another command
    assert value(text, "tags") == (1 if name == "prune" else 2)
    assert value(text, "last_run_images", command=name, status="copied") is None
    freed = value(text, "last_run_freed_bytes", command=name)
    assert freed is None if name == "verify" else freed
    found = {s: value(text, "last_run_findings", command=name, severity=s) for s in SEVERITIES}
    assert found["damage"] == (0 if name == "verify" else None)
    assert (found["garbage"] or 0) == (2 if name == "verify" else 0)


def test_upkeep_that_fails(run: Run, root: Path, file: Path, tmp_path: Path) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, by_name("base"))
    blob = next((root / "v2" / "base" / "blobs").iterdir())
    blob.chmod(0o644)
    blob.write_bytes(b"damaged")
    assert run("verify", "--metrics", file).status == 1
    assert value(file.read_text(), "last_run_findings", command="verify", severity="damage")
    assert run("prune", "--keep-list", tmp_path / "absent", "--metrics", file).status == 1
    assert run("prune", "--keep", "absent:*", "--metrics", file).status == 1  # the guard
    text = file.read_text()
    assert value(text, "failures_total", command="prune") == 2
    for name in ("verify", "prune"):
        assert value(text, "last_run_success", command=name) == 0
        assert value(text, "last_success_timestamp_seconds", command=name) is None


@pytest.mark.parametrize(
    "arguments",
    [["gc", "--dry-run"], ["prune", "--dry-run", "--keep-newest", "1"], ["verify", "base"]],
)
def test_no_metrics_of_half_a_job(run: Run, file: Path, arguments: list[str]) -> None:
    result = run(*arguments, "--metrics", file)
    assert (result.status, result.out) == (2, "")
    assert "error: --metrics " in result.err
    assert not file.exists()


def test_two_runs_that_end_at_once_lose_nothing(
    run: Run, root: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the reading of the file to its writing, no other run has its turn."""
    LocalExportDriver(root).close()
    held = []

    def read(path: Path) -> str:
        other = os.open(path.parent, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
        held.append(path)
        return ""

    monkeypatch.setattr(files, "text_if_any", read)
    assert run("gc", "--metrics", file).status == 0
    assert held == [file]
