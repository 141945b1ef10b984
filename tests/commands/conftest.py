"""Commands on a tree with one of everything, in this process."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from image_uploader_plugins.cli.main import main
from image_uploader_plugins.demo import images
from image_uploader_plugins.local_export.driver import LocalExportDriver
from tests.functional.content import artifact, nested_index, referrer, schema_1
from tests.support import trees

HOSTILE = "a\x1b[31mred\r\nERROR: fake\u202e"

BASE = images.layer({"base": b"base" * 100})
ONE = images.image("ns/img", "1.0", [BASE, images.layer({"file": b"one"})])
TWO = images.image("ns/img", "2.0", [BASE, images.layer({"file": b"two"})])
COPY = images.image("ns/copy", "1.0", [images.layer({"file": b"one"})])
LIST = images.index(
    "ns/list",
    "1.0",
    [images.image("ns/list", None, [BASE], architecture=a) for a in ("arm64", "riscv64")],
)
NOTE = referrer(ONE, "application/vnd.example.sbom+json", "about")
STRANGE = images.image(
    "odd/strange",
    "1.0",
    [images.layer({"file": b"strange"}, oci=True)],
    oci=True,
    labels={HOSTILE: HOSTILE, "plain": "text"},
    annotations={HOSTILE: HOSTILE},
    artifactType=HOSTILE,
)
CONTENT = [
    *(ONE, TWO, COPY, LIST, NOTE, STRANGE),
    *(artifact(), nested_index(), schema_1()),
]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command left: its exit status, and what it wrote where."""

    status: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def config(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "image-uploader.conf"
    path.write_text(f"[local_export]\nroot = {root}\n")
    return path


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template") / "image-serve"
    with LocalExportDriver(root) as driver:
        for image in CONTENT:
            trees.put(driver, image)
        trees.put(driver, TWO, "latest")
    return root


@pytest.fixture
def filled(template: Path, root: Path) -> Path:
    """A tree with one of everything; ns/img:latest is a second name of 2.0."""
    return copied(template, root)


@pytest.fixture
def run(config: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line on the tree."""

    def run(*arguments: str) -> Result:
        logger = logging.getLogger()
        before, level = logger.handlers[:], logger.level
        capsys.readouterr()
        try:
            status = main(["--config-file", str(config), *arguments])
        finally:
            logger.handlers[:] = before
            logger.setLevel(level)
        return Result(status, *capsys.readouterr())

    return run


def copied(tree: Path, root: Path) -> Path:
    """A tree of one's own, with its links and times."""
    subprocess.run(["cp", "-a", str(tree), str(root)], check=True)
    return root


def content_bytes(root: Path) -> int:
    """Bytes of manifests and blobs on the disk, each inode once."""
    paths = [*root.rglob("blobs/*"), *root.rglob("pool/*/*/*"), *root.rglob("index.json")]
    found = {path.stat().st_ino: path.stat().st_size for path in paths}
    return sum(found.values())
