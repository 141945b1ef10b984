# SPDX-License-Identifier: Apache-2.0
"""From options to a driver, and the sample of all options."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from oslo_config import cfg, generator
from stevedore import extension

from image_uploader_plugins import errors, loader
from image_uploader_plugins.local_export import options
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.pace import Limits
from tests.support.checkout import PROJECT

SAMPLE = PROJECT / "etc" / "image-uploader.conf.sample"


def conf_of(folder: Path, text: str) -> cfg.ConfigOpts:
    path = folder / "image-uploader.conf"
    path.write_text(text)
    return loader.load_conf(config_files=[str(path)])


def test_the_driver_is_chosen_by_configuration(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    driver = loader.load_driver(conf_of(tmp_path, f"[local_export]\nroot = {root}\n"))
    assert isinstance(driver, LocalExportDriver)
    assert (root / "v2" / "_catalog").exists()


def test_options_of_one_target_are_not_anothers(tmp_path: Path) -> None:
    confs = [conf_of(tmp_path, "") for _ in range(2)]
    for conf in confs:
        options.values(conf)
    confs[0].set_override("root", str(tmp_path), group=options.GROUP)
    assert options.values(confs[1]).root == options.ROOT


def test_an_unknown_driver_is_named_with_what_is_installed(tmp_path: Path) -> None:
    conf = conf_of(tmp_path, "[image_uploader]\ndriver = no-such\n")
    with pytest.raises(errors.ConfigurationError) as caught:
        loader.load_driver(conf)
    for part in ("no-such", "image_uploader_plugins.drivers", "local-export"):
        assert part in str(caught.value)


@pytest.mark.slow
def test_a_driver_that_fails_to_import_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "broken-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (package / "entry_points.txt").write_text(
        f"[{loader.NAMESPACE}]\nbroken = no_such_module:Driver\nnodriver = os:path\n"
    )
    program = (
        "from image_uploader_plugins import loader\n"
        "for name in ('broken', 'nodriver'):\n"
        "    try: loader.load_driver(loader.load_conf(config_files=[]), name)\n"
        "    except loader.errors.ConfigurationError as e: print(e)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{tmp_path}:{SAMPLE.parents[1]}", "XDG_CACHE_HOME": str(tmp_path)},
    )
    broken, nodriver = result.stdout.splitlines()
    assert "'broken'" in broken
    assert "No module named 'no_such_module'" in broken
    assert "is not an UploaderDriver" in nodriver


@pytest.mark.parametrize(
    "text", ["root = relative", "lease_timeout = 1", "lease_timeout = soon", "root = /proc/x"]
)
def test_options_that_cannot_work_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="'local-export' refuses its options"):
        loader.load_driver(conf_of(tmp_path, f"[local_export]\n{text}\n"))


def test_how_slow_a_registry_may_be(tmp_path: Path) -> None:
    assert loader.settings(conf_of(tmp_path, "")).limits == Limits(1024, 6 * 3600)
    text = "[image_uploader]\nminimum_rate = 0\ntransfer_deadline = 60\n"
    assert loader.settings(conf_of(tmp_path, text)).limits == Limits(0, 60)


def test_how_registries_are_asked(tmp_path: Path) -> None:
    text = "answer_timeout = 7\nlongest_pause = 8\ninsecure_registries = a:1, b\n"
    found = loader.settings(conf_of(tmp_path, f"[image_uploader]\n{text}"), ["c"])
    assert (found.read_timeout, found.longest_pause) == (7, 8)
    assert [found.trust.is_insecure(name) for name in ("a:1", "b", "c", "d")] == [True] * 3 + [
        False
    ]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"absent\.conf"):
        loader.load_conf(config_files=[str(tmp_path / "absent.conf")])


@pytest.mark.parametrize(
    ("said", "command", "expected"),
    [
        (None, True, True),
        (None, False, False),
        ("true", False, True),
        ("false", True, False),
    ],
)
def test_mirrors_of_registries_conf(
    tmp_path: Path, said: str | None, command: bool, expected: bool
) -> None:
    """They count for the commands that want them, unless the option says otherwise."""
    option = f"registries_conf_mirrors = {said}\n" if said else ""
    conf = conf_of(tmp_path, f"[image_uploader]\n{option}")
    found = loader.settings(conf, mirrored=command)
    assert (found.registries_conf is not None) is expected


def test_a_malformed_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"image-uploader\.conf"):
        conf_of(tmp_path, "root = /x\n")


def test_local_export_is_installed() -> None:
    assert "local-export" in loader.installed()
    assert "image_uploader_plugins" in extension.ExtensionManager("oslo.config.opts").names()


def test_the_sample_is_up_to_date(tmp_path: Path) -> None:
    sample = tmp_path / "sample"
    generator.main(["--namespace", "image_uploader_plugins", "--output-file", str(sample)])
    assert sample.read_text() == SAMPLE.read_text()
