# SPDX-License-Identifier: Apache-2.0
"""The units in etc/systemd: their command lines as a night runs them, and what systemd says."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import commands, damages, programs, trees
from tests.support import registry as registries
from tests.support.checkout import PROJECT
from tests.support.command_lines import parse
from tests.support.units import Unit

FOLDER = PROJECT / "etc" / "systemd"
UNITS = sorted(path.name for path in FOLDER.iterdir())
JOBS = ("sync", "prune", "gc", "verify")
RULES = PROJECT / "etc" / "prometheus" / "image-uploader.rules.yml"


def image(tag: str) -> Image:
    return images.image("ns/app", tag, [images.layer({"f": tag.encode() * 99})])


class Nights:
    """The units of a machine; what they name is in a folder of the test."""

    def __init__(self, folder: Path, source: str) -> None:
        self.etc, self.state = folder / "etc", folder / "state"
        self.root = folder / "tree"
        self._source = source
        self._bin = folder / "bin"
        for path in (self.etc, self.state, self._bin, self.root):
            path.mkdir()
        self._settings = {"IMAGE_UPLOADER_ROOT": str(self.root)}
        self.configure(IMAGE_UPLOADER_LIST=self.etc / "images.yaml")

    def configure(self, **settings: object) -> None:
        """Write variables into the file that the units read."""
        self._settings |= {name: str(value) for name, value in settings.items()}
        lines = [f'{name}="{value}"\n' for name, value in self._settings.items()]
        (self.etc / "nightly.env").write_text("".join(lines))

    def want(self, *tags: str) -> None:
        names = [f"{self._source}/ns/app:{tag}" for tag in tags]
        (self.etc / "images.yaml").write_text(yaml.safe_dump({"images": names}))

    def program(self, name: str, script: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def unit(self, name: str) -> Unit:
        places = {"/etc/image-uploader/": f"{self.etc}/"}
        return Unit(FOLDER, f"image-uploader-{name}.service", places)

    def run(self, name: str) -> tuple[int, list[str]]:
        """Run a unit; return its status, and the names of those that follow it."""
        unit = self.unit(name)
        path = os.pathsep.join([str(self._bin), str(Path(commands.PROGRAM).parent)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STATE", str(self.state))
            patch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")
            patch.setenv("HOME", str(self.etc))
            status = unit.run()
        return status, unit.followers(status)

    def blobs(self) -> set[str]:
        return {path.name for path in (self.root / "v2" / "ns" / "app" / "blobs").iterdir()}

    @property
    def metrics(self) -> dict[str, dict[tuple[str, ...], float]]:
        """The value of each metric, by the values of its labels."""
        text = (self.state / "image-uploader" / "image-uploader.prom").read_text()
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = tuple(sorted(sample.labels.values()))
                found.setdefault(sample.name, {})[labels] = sample.value
        return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.docker_registry(tmp_path_factory.mktemp("registry")) as address:
        registries.push(address, [image(tag) for tag in ("1.0", "2.0", "3.0")])
        yield address


@pytest.fixture
def nights(tmp_path: Path, source: str) -> Nights:
    return Nights(tmp_path, source)


@pytest.mark.slow
def test_a_week(nights: Nights) -> None:
    """What is new comes, what is old goes, what nobody needs is removed, and all is well."""
    nights.want("1.0", "2.0")
    assert nights.run("sync") == (0, ["image-uploader-prune.service"])
    assert trees.tags(nights.root, "ns/app") == ["1.0", "2.0"]
    blobs = nights.blobs()
    nights.want("2.0", "3.0")
    assert nights.run("sync")[0] == 0
    assert trees.tags(nights.root, "ns/app") == ["1.0", "2.0", "3.0"]
    assert nights.run("prune") == (0, [])
    assert trees.tags(nights.root, "ns/app") == ["2.0", "3.0"]
    _leave_garbage(nights.root)
    assert nights.run("gc") == (0, [])
    assert blobs - nights.blobs()
    assert not list((nights.root / ".local-export" / "staging").iterdir())
    assert nights.run("verify") == (0, [])
    found = nights.metrics
    assert found["image_uploader_last_run_success"] == {(job,): 1 for job in JOBS}
    assert found["image_uploader_last_run_findings"]["damage", "verify"] == 0
    assert found["image_uploader_last_run_freed_bytes"]["prune",] > 0
    assert found["image_uploader_last_run_freed_bytes"]["gc",] == 4
    assert found["image_uploader_tags"] == {(): 2}
    report = json.loads((nights.state / "image-uploader" / "sync.json").read_text())
    assert report["status"] == "succeeded"
    _check_rules(nights)


def _leave_garbage(root: Path) -> None:
    left = root / ".local-export" / "staging" / ("0" * 32)
    left.mkdir(parents=True)
    (left / "x").write_bytes(b"half")


def _check_rules(nights: Nights) -> None:
    """Alerts ask for metrics and labels that the units' commands have written."""
    found = nights.metrics
    labels = {value for values in found.values() for sample in values for value in sample}
    rules = _rules()
    assert len(rules) == 5
    for rule in rules:
        names = re.findall(r"image_uploader_\w+", rule["expr"])
        assert names and set(names) <= set(found), rule
        wanted = re.findall(r'"([^"]+)"', rule["expr"])
        assert all(set(text.split("|")) & labels for text in wanted), rule


def _rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_each_alert_is_described() -> None:
    page = (PROJECT / "doc" / "source" / "nightly.rst").read_text()
    for rule in _rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert f"``{rule['alert']}``" in page


def test_what_the_page_runs_instead_can_be_run() -> None:
    page = (PROJECT / "doc" / "source" / "nightly.rst").read_text()
    lines = re.findall(r"^   ExecStart=image-uploader (.+)$", page, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        parse(line.replace("${STATE_DIRECTORY}/", "/").split())


@pytest.mark.slow
def test_a_damaged_blob_needs_a_person(nights: Nights) -> None:
    nights.want("1.0")
    assert nights.run("sync")[0] == 0
    (blob, *_) = sorted((nights.root / "v2" / "ns" / "app" / "blobs").iterdir())
    damages.flip(blob)
    assert nights.run("verify") == (1, ["image-uploader-alert@image-uploader-verify.service"])
    found = nights.metrics
    assert found["image_uploader_last_run_findings"]["damage", "verify"] > 0
    assert found["image_uploader_last_run_success"]["verify",] == 0
    assert ("verify",) not in found["image_uploader_last_success_timestamp_seconds"]


@pytest.mark.slow
def test_after_a_sync_that_failed_nothing_is_pruned(nights: Nights) -> None:
    nights.want("1.0", "2.0")
    assert nights.run("sync")[0] == 0
    nights.want("1.0", "absent")
    alert = "image-uploader-alert@image-uploader-sync"
    assert nights.run("sync") == (1, [f"{alert}.service"])
    nights.program("systemctl", 'echo "$0 $*"; exit 3')
    nights.program("sendmail", f'cat >{nights.state}/mail; echo "$@" >>{nights.state}/mail')
    nights.configure(ALERT_TO="admin@example.com")
    status, _ = nights.run(alert.removeprefix("image-uploader-"))
    lines = (nights.state / "mail").read_text().splitlines()
    assert status == 0
    assert lines[:3] == [
        "To: admin@example.com",
        "Subject: image-uploader-sync failed on machine.example.com",
        "",
    ]
    assert lines[3].endswith("systemctl status --full --lines=50 image-uploader-sync.service")
    assert lines[4] == "-t"


@pytest.mark.slow
def test_options_of_a_machine(nights: Nights) -> None:
    nights.want("1.0", "2.0", "3.0")
    nights.configure(SYNC_OPTIONS="--full-names --no-referrers")
    assert nights.run("sync")[0] == 0
    (name,) = trees.catalog(nights.root)
    assert name.endswith("/ns/app")
    nights.want("1.0")
    assert nights.run("prune")[0] == 1  # more than half
    nights.configure(PRUNE_OPTIONS="--keep *:2.0 --max-share 0.9")
    assert nights.run("prune")[0] == 0
    assert trees.tags(nights.root, name) == ["1.0", "2.0"]


# -- what systemd says


def sections(name: str) -> dict[str, list[tuple[str, str]]]:
    """The lines of each section but for those that say what the unit is for."""
    parser = configparser.RawConfigParser(strict=False, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(FOLDER / name)
    return {section: parser.items(section) for section in parser.sections()}


def test_there_is_a_timer_for_each_job_but_what_follows_another() -> None:
    there = [
        "image-uploader-alert@.service",
        *("image-uploader-gc.service", "image-uploader-gc.timer"),
        "image-uploader-prune.service",
        *("image-uploader-sync.service", "image-uploader-sync.timer"),
        *("image-uploader-verify.service", "image-uploader-verify.timer"),
    ]
    assert there == UNITS
    for name in UNITS:
        if name.endswith(".timer"):
            timer = dict(sections(name)["Timer"])
            assert timer["Persistent"] == "true"
            assert timer["RandomizedDelaySec"]


def test_jobs_are_confined_alike() -> None:
    """Whoever has no registry to ask has no network, and verify writes to no tree."""
    jobs = {job: dict(sections(f"image-uploader-{job}.service")["Service"]) for job in JOBS}
    differing = {"ExecStart", "Environment", "TimeoutStartSec", "SuccessExitStatus"}
    network = {"PrivateNetwork": "true", "IPAddressDeny": "any", "ProtectHome": "true"}
    network["RestrictAddressFamilies"] = "AF_UNIX"
    common = {k: v for k, v in jobs["sync"].items() if k not in differing} | network
    assert common["ProtectSystem"] == "strict"
    assert common["NoNewPrivileges"] == "true"
    for job in ("prune", "gc", "verify"):
        own = {key: value for key, value in jobs[job].items() if key not in differing}
        if job == "verify":
            assert own.pop("ReadWritePaths", None) is None
            own["ReadWritePaths"] = common["ReadWritePaths"]
        assert own == common, job
        assert jobs[job]["SuccessExitStatus"] == "143"
    # What is stopped has not succeeded, or prune would follow.
    assert "SuccessExitStatus" not in jobs["sync"]


def test_systemd_takes_them(tmp_path: Path) -> None:
    program = programs.require("systemd-analyze", "systemd")
    for name in UNITS:
        text = (FOLDER / name).read_text()
        (tmp_path / name).write_text(
            text.replace("ExecStart=image-uploader ", f"ExecStart={commands.PROGRAM} ")
        )
    instance = tmp_path / "image-uploader-alert@x.service"
    instance.symlink_to("image-uploader-alert@.service")
    names = [name for name in UNITS if "@" not in name] + [instance.name]
    done = subprocess.run(
        [program, "verify", "--man=no", "--recursive-errors=no", *names],
        cwd=tmp_path,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "image-uploader" in line]
    assert (done.returncode, said) == (0, [])
