"""Blobs whose fetch breaks off: the next process goes on where the last one stopped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources import tries
from image_uploader_plugins.testing import images
from tests.support import odd_registry, sources, trees
from tests.support.odd_registry import Asked, OddRegistry, Reply

SIZE = 7_200_000  # bytes
LAYER = images.Blob(bytes(range(256)) * (SIZE // 256), images.OCI_LAYER)
IMAGE = images.image("ns/big", "1.0", [LAYER])
PARTIAL = layout.partial(LAYER.digest)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)


class Line:
    """A line that breaks after ``cut`` bytes of each answer with LAYER, and then is dead.

    ``served`` are the bytes of it that went out; with ``whole`` ranges are
    not understood, with ``content`` it is something else by now.
    """

    def __init__(self) -> None:
        self.cut: int | None = None
        self.status = 0
        self.whole = False
        self.content = LAYER.content
        self.served = 0
        self.ranges: list[str | None] = []
        self._dead = False

    def __call__(self, asked: Asked) -> Reply | None:
        if not asked.path.endswith(f"/blobs/{LAYER.digest}"):
            return None
        if self._dead:
            return Reply(502)
        self.ranges.append(asked.headers["Range"])
        return self._answer(asked.headers["Range"])

    def _answer(self, wanted: str | None) -> Reply:
        if wanted and self.status:
            return Reply(self.status)
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        start = int(match[1]) if match and not self.whole else 0
        rest = self.content[start:]
        self._dead = self.cut is not None and self.cut < len(rest)
        self.served += len(rest[: self.cut])
        if not start:
            return Reply(200, (), rest, self.cut)
        told = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        return Reply(206, (("Content-Range", told),), rest, self.cut)

    def mend(self, cut: int | None = None) -> None:
        self.cut, self._dead = cut, False


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def address(line: Line) -> Iterator[str]:
    with odd_registry.serving(OddRegistry([IMAGE], line)) as address:
        yield address


def copy(root: Path, address: str, **options: int) -> tuple[Copier, Meter]:
    """As a process of its own does it."""
    meter = Meter()
    with LocalExportDriver(root, **options) as driver:
        source = sources.source(address, IMAGE.repository)
        copier = Copier(driver, IMAGE.repository, source, meter=meter)
        copier.copy(Tag("1.0"), Tag("1.0"), all_platforms=False)
    return copier, meter


def fail(root: Path, address: str, **options: int) -> None:
    with pytest.raises((errors.RegistryError, errors.RegistryUnreachable)):
        copy(root, address, **options)


def kept(root: Path) -> dict[str, int]:
    folder = root / layout.PARTIAL
    return {path.name: path.stat().st_size for path in folder.iterdir()} if folder.exists() else {}


def test_a_blob_that_is_cut_five_times(root: Path, address: str, line: Line) -> None:
    for _ in range(5):
        line.mend(SIZE // 6)
        fail(root, address)
        assert not list((root / "v2").rglob(f"{LAYER.digest}*"))
    line.mend()
    copier, meter = copy(root, address)
    assert line.served <= 1.05 * SIZE
    assert copier.summary.bytes_fetched - len(IMAGE.blobs[IMAGE.manifest.config.digest]) < SIZE / 4
    assert meter.done == meter.expected
    assert kept(root) == {}
    assert not trees.problems(root)
