# SPDX-License-Identifier: Apache-2.0
"""What is published: a source distribution, and a wheel that is built from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import PROJECT

pytestmark = pytest.mark.slow

PACKAGE = "image_uploader_plugins"
ETC = PROJECT / "etc"
SHARE = "share/image-uploader"
_CACHES = ("tests/__pycache__/conftest.cpython-311.pyc", "examples/oci-layout/build/lib/old.py")
_QUICK_TESTS = ("tests/unit/test_reference.py", "tests/unit/test_loader.py")
# Where links lead to files elsewhere in the sources, and the wheel has the files.
_LINKED = {
    "serving/httpd.conf": "etc/httpd/image-serve.conf",
    "serving/nginx.conf": "etc/nginx/image-serve.conf",
    **{
        f"sync/image-uploader-sync.{kind}": f"etc/systemd/image-uploader-sync.{kind}"
        for kind in ("service", "timer")
    },
}


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the files of the checkout into a folder where building may write."""
    folder = tmp_path_factory.mktemp("packaging") / "sources"
    if not (PROJECT / ".git").exists():
        made = shutil.ignore_patterns(".venv", ".tox", "__pycache__", ".*_cache", ".hypothesis")
        return Path(shutil.copytree(PROJECT, folder, symlinks=True, ignore=made))
    listed = _run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=PROJECT)
    for name in filter(None, listed.split("\0")):
        if os.path.lexists(PROJECT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def tracked(sources: Path) -> set[str]:
    return _files(sources)


@pytest.fixture(scope="module")
def unpacked(sources: Path, tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the source distribution of a checkout in which somebody has worked."""
    for name in _CACHES:
        assert name not in tracked
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).touch()
    folder = tmp_path_factory.mktemp("sdist")
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    _run(sys.executable, "-c", build, cwd=sources)
    (archive,) = folder.iterdir()
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):  # PEP 706, from Python 3.11.4 on
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(folder)  # noqa: S202 - we have just made it
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", "wheel", "-q", *offline)
    sources = shutil.copytree(unpacked, folder / "sources")
    _run(*pip, "--wheel-dir", folder, sources, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel beside what is installed here; return the folder of programs."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    _run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment.parent)
    python = environment / "bin" / "python"
    # First, for pip does nothing where it sees the package in what is installed here.
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q")
    offline = ("--no-index", "--no-deps", "--disable-pip-version-check")
    _run(*pip, *offline, wheel, cwd=environment)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(_run(python, "-c", where, cwd=environment).strip())
    # Its own packages are found before those that this file adds.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python.parent


def test_the_sources_are_complete(unpacked: Path, tracked: set[str]) -> None:
    """All that a packager builds, tests and documents with; nothing that only git needs."""
    found = _files(unpacked)
    assert tracked - found <= {".gitignore"}
    made = {name for name in found - tracked if not name.startswith(f"{PACKAGE}.egg-info/")}
    assert made <= {"PKG-INFO", "setup.cfg"}


def test_the_wheel_has_the_package(wheel: Path, tracked: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        linked = {name: archive.read(f"{PACKAGE}/{name}").decode("utf-8") for name in _LINKED}
    shared = {name.partition(f"/data/{SHARE}/")[2] for name in names if f"/data/{SHARE}/" in name}
    folders = ("prometheus", "systemd", "sysusers.d")
    assert shared == {
        *("nightly.env", "image-uploader.conf.sample"),
        *(str(p.relative_to(ETC)) for folder in folders for p in (ETC / folder).iterdir()),
    }
    names = {name for name in names if ".data/" not in name}
    assert names == {name for name in tracked if name.startswith(f"{PACKAGE}/")}
    views = f"{PACKAGE}/local_export/views"
    assert names >= {f"{PACKAGE}/py.typed", f"{views}/page.html", f"{views}/api.htaccess"}
    assert linked == {name: (PROJECT / path).read_text() for name, path in _LINKED.items()}


def test_the_wheel_is_installed(scripts: Path, tmp_path: Path) -> None:
    program, config = scripts / "image-uploader", tmp_path / "image-uploader.conf"
    config.write_text(f"[local_export]\nroot = {tmp_path / 'tree'}\n")
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert _run(program, "--version", cwd=tmp_path) == f"image-uploader {version}\n"
    configured = (program, "--config-file", config)
    assert "local-export" in _run(*configured, "drivers", cwd=tmp_path)
    assert (scripts.parent / SHARE / "systemd" / "image-uploader-gc.service").is_file()
    printed = _run(*configured, "sync", "nginx", "--print", "systemd", cwd=tmp_path)
    assert f"ExecStart={program} " in printed
    assert "server {" in _run(*configured, "serve", "--print", "nginx", cwd=tmp_path)
    where = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    found = _run(scripts / "python", "-c", where, cwd=tmp_path)
    assert Path(found).is_relative_to(scripts.parent)


def test_the_sources_test_themselves(scripts: Path, unpacked: Path) -> None:
    pytest_ = (scripts / "python", "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert " passed" in _run(*pytest_, *_QUICK_TESTS, cwd=unpacked)
