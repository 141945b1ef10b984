# SPDX-License-Identifier: Apache-2.0
"""The example of a driver: installed as any third party's, tested, and used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.registry import SourceRegistry
from tests.support import commands, programs
from tests.support.checkout import PROJECT

EXAMPLE = PROJECT / "examples" / "oci-layout"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it and without its sources, as pip leaves it."""
    folder = tmp_path_factory.mktemp("example")
    sources, target = folder / "sources", folder / "site"
    shutil.copytree(EXAMPLE, sources)  # building writes beside the sources
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    _python(target, "-m", "pip", "install", "-q", *options, "--target", target, sources)
    return target


def _python(path: Path, *args: str | Path, cwd: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, *args],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_it_passes_its_tests(installed: Path, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    run = ("-m", "unittest", "discover", "-v", "-s", "tests", "-p")
    output = _python(installed, *run, "test_contract.py", cwd=tmp_path)
    assert "test_threads (test_contract.TestContract.test_threads) ... ok" in output
    _python(installed, *run, "test_driver.py", cwd=tmp_path)


@pytest.mark.slow
def test_it_is_found_by_its_name(installed: Path) -> None:
    name = "from image_uploader_plugins import loader; print(loader.installed())"
    assert _python(installed, "-c", name).strip() == "['local-export', 'oci-layout']"


@pytest.mark.slow
def test_its_options_are_in_samples(installed: Path) -> None:
    sample = _python(
        *(installed, "-c", "from oslo_config import generator; generator.main()"),
        *("--namespace", "image_uploader_oci_layout"),
    )
    assert "[oci_layout]" in sample
    assert "#root = /var/lib/oci-layouts" in sample


@pytest.mark.slow
def test_images_are_uploaded_into_it(installed: Path, tmp_path: Path) -> None:
    skopeo = programs.require("skopeo")
    image = images.image("edge/nova", "1.0", [images.layer({"file": b"one"})], oci=True)
    config, wanted, root = (tmp_path / name for name in ("conf", "images.yaml", "layouts"))
    config.write_text(f"[oci_layout]\nroot = {root}\n")
    with web_server.serving(SourceRegistry([image])) as source:
        entry = {
            "imagename": f"{source}/edge/nova:1.0",
            "uploader": "oci-layout",
            "push_destination": "localhost:8787",
        }
        wanted.write_text(yaml.safe_dump({"container_images": [entry]}))
        _python(installed, *commands.line(config, "upload", wanted))
    layout, copy = root / "edge+nova", tmp_path / "copy"
    subprocess.run([skopeo, "copy", "--quiet", f"oci:{layout}:1.0", f"dir:{copy}"], check=True)
    assert (copy / "manifest.json").read_bytes() == image.manifest.content
