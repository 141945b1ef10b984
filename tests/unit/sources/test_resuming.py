# SPDX-License-Identifier: Apache-2.0
"""Blobs whose fetch breaks off: the next process goes on where the last one stopped."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sources import tries
from image_uploader_plugins.testing import images
from tests.support import odd_registry, sources, trees
from tests.support.odd_registry import Asked, OddRegistry, Reply

SIZE = 7_200_000  # bytes
LAYER = images.Blob(bytes(range(256)) * (SIZE // 256), media_types.OCI_LAYER_GZIP)
IMAGE = images.image("ns/big", "1.0", [LAYER])
assert IMAGE.manifest.config
CONFIG = len(IMAGE.blobs[IMAGE.manifest.config.digest])  # bytes
PARTIAL = layout.partial(LAYER.digest)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)


class Line:
    """A line that breaks after ``cut`` bytes of each answer with LAYER, and then is dead.

    ``served`` are the bytes of it that went out.  With ``whole`` ranges are not
    understood, with a ``status`` they are refused, and ``told`` is a wrong
    Content-Range.
    """

    def __init__(self) -> None:
        self.cut: int | None = None
        self.status = 0
        self.told: str | None = None
        self.whole = False
        self.content = LAYER.content
        self.served = 0
        self.ranges: list[str | None] = []
        self.meter = Meter()
        self.due = 0
        self._dead = False

    def __call__(self, asked: Asked) -> Reply | None:
        if not asked.path.endswith(f"/blobs/{LAYER.digest}"):
            return None
        if self._dead:
            return Reply(502)
        self.ranges.append(asked.headers["Range"])
        self.due = self.meter.expected - self.meter.done
        return self._answer(asked.headers["Range"])

    def _answer(self, wanted: str | None) -> Reply:
        if wanted and self.status:
            return Reply(self.status)
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        if match and int(match[1]) >= len(self.content):
            return Reply(416)
        start = int(match[1]) if match and not self.whole else 0
        rest = self.content[start:]
        self._dead = self.cut is not None and self.cut < len(rest)
        self.served += len(rest[: self.cut])
        if not start:
            return Reply(200, (), rest, self.cut)
        told = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        right = told if self.told is None else self.told
        return Reply(206, (("Content-Range", right),), rest, self.cut)

    def mend(self, cut: int | None = None) -> None:
        self.cut, self._dead = cut, False


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def address(line: Line) -> Iterator[str]:
    with odd_registry.serving(OddRegistry([IMAGE], line)) as address:
        yield address


def copy(root: Path, address: str, meter: Meter | None = None, **options: Any) -> Meter:
    """As a process of its own does it."""
    meter = meter or Meter()
    with LocalExportDriver(root, **options) as driver:
        source = sources.source(address, IMAGE.repository, meter)
        copier = Copier(driver, IMAGE.repository, source, meter=meter)
        copier.copy(Tag("1.0"), Tag("1.0"), all_platforms=False)
    return meter


def fail(root: Path, address: str, **options: Any) -> None:
    with pytest.raises((errors.RegistryError, errors.RegistryUnreachable)):
        copy(root, address, **options)


def kept(root: Path) -> dict[str, int]:
    folder = root / layout.PARTIAL
    return {path.name: path.stat().st_size for path in folder.iterdir()} if folder.exists() else {}


@pytest.mark.slow
def test_a_blob_that_is_cut_five_times(root: Path, address: str, line: Line) -> None:
    for _ in range(5):
        line.mend(SIZE // 6)
        fail(root, address)
        assert not list((root / "v2").rglob(f"{LAYER.digest}*"))
    line.mend()
    meter = copy(root, address)
    assert line.served <= 1.05 * SIZE
    assert meter.done < SIZE / 4
    assert meter.done == meter.expected
    assert kept(root) == {}
    assert not trees.problems(root)


@pytest.mark.slow
def test_what_came_in_the_same_run_is_not_fetched_again(
    root: Path, address: str, line: Line
) -> None:
    """Nor by another instance, nor for another repository of the target."""
    line.mend(3_000_000)
    fail(root, address)
    assert kept(root) == {PARTIAL.name: 3_000_000}
    line.mend()
    meter = Meter()
    with LocalExportDriver(root) as driver:
        source = sources.source(address, IMAGE.repository)
        copier = Copier(driver, RepositoryName("other/name"), source, meter=meter)
        copier.copy(Tag("1.0"), Tag("1.0"), all_platforms=False)
    assert line.ranges[-1] == "bytes=3000000-"
    assert line.served == SIZE


@pytest.mark.slow
@pytest.mark.parametrize("status", [0, 400, 416])
def test_a_registry_that_gives_no_parts(root: Path, address: str, line: Line, status: int) -> None:
    line.mend(3_000_000)
    fail(root, address)
    line.mend()
    line.status, line.whole = status, not status
    meter = copy(root, address)
    assert line.ranges[-1] == (None if status else "bytes=3000000-")
    assert line.served == 3_000_000 + SIZE
    # All of it has come, and what was there already was of no use.
    assert (meter.done, meter.expected) == (SIZE, SIZE)
    assert whole(root)


@pytest.mark.slow
@pytest.mark.parametrize("told", ["bytes 9-10/99", ""])
def test_a_registry_that_gives_other_parts(root: Path, address: str, line: Line, told: str) -> None:
    line.mend(3_000_000)
    fail(root, address)
    line.mend()
    line.told = told
    copy(root, address)
    assert whole(root)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3_000_000, SIZE])
def test_what_was_kept_and_is_damaged(root: Path, address: str, line: Line, count: int) -> None:
    keep(root, LAYER.content[: count - 1] + b"?")
    meter = copy(root, address)
    assert line.ranges[-1] is None
    assert line.served == 2 * SIZE - count
    assert meter.done == meter.expected
    assert whole(root)


@pytest.mark.slow
def test_what_was_kept_is_not_to_come(root: Path, address: str, line: Line) -> None:
    keep(root, LAYER.content[:3_000_000])
    copy(root, address, line.meter)
    assert 0 <= line.due - (SIZE - 3_000_000) <= CONFIG
    assert line.meter.done == line.meter.expected


@pytest.mark.slow
def test_a_blob_of_which_all_was_kept_is_not_fetched(root: Path, address: str, line: Line) -> None:
    keep(root, LAYER.content)
    meter = copy(root, address)
    assert line.ranges == []
    assert meter.done == meter.expected == CONFIG
    assert whole(root)


@pytest.mark.slow
@pytest.mark.parametrize("change", [-5_000_000, -1000, 1000])
def test_content_that_has_another_size_by_now(
    root: Path, address: str, line: Line, change: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries.Tries, "pause", lambda self, seconds: None)
    line.mend(3_000_000)
    fail(root, address)
    line.mend()
    line.content = (LAYER.content * 2)[: SIZE + change]
    with pytest.raises(errors.SizeMismatch):
        copy(root, address)
    assert not list((root / "v2").rglob(f"{LAYER.digest}*"))
    assert kept(root) == {}
    line.content = LAYER.content
    copy(root, address)
    assert whole(root)


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _name(path: Path, victim: Path) -> None:
    os.link(victim, path)


def _pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, victim: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def _longer(path: Path, victim: Path) -> None:
    path.write_bytes(LAYER.content + b"more")


def _closed(path: Path, victim: Path) -> None:
    path.write_bytes(LAYER.content[:3_000_000])
    path.chmod(0)


def _anothers(path: Path, victim: Path) -> None:
    path.write_bytes(LAYER.content[:3_000_000])
    if os.geteuid() == 0:
        os.chown(path, 23456, 34567)


@pytest.mark.slow
@pytest.mark.parametrize("plant", [_link, _name, _pipe, _folder, _longer, _closed, _anothers])
def test_what_somebody_else_has_put_there(
    root: Path,
    address: str,
    line: Line,
    tmp_path: Path,
    plant: Callable[[Path, Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is not followed, not written to, and in nobody's way."""
    victim = tmp_path / "victim"
    victim.write_bytes(LAYER.content[:3_000_000])
    keep(root, b"")
    (root / PARTIAL).unlink()
    plant(root / PARTIAL, victim)
    copy(root, address)
    assert victim.read_bytes() == LAYER.content[:3_000_000]
    assert victim.stat().st_nlink == 1
    assert whole(root)
    assert "what was kept" not in caplog.text  # nor is it read
    usable = plant is (_anothers if os.geteuid() else _closed)
    assert line.served == (SIZE - 3_000_000 if usable else SIZE)


@pytest.mark.slow
def test_little_is_not_kept(root: Path, address: str, line: Line) -> None:
    line.mend(1_000_000)
    fail(root, address)
    assert kept(root) == {}


@pytest.mark.slow
def test_without_a_limit_nothing_is_kept(root: Path, address: str, line: Line) -> None:
    line.mend(3_000_000)
    fail(root, address, partial_limit=0)
    assert not (root / layout.PARTIAL).exists()


def test_a_layer_without_a_size(line: Line, address: str) -> None:
    """As of schema 1: it is complete where the registry has no more."""
    line.status = 416
    blob = Descriptor(LAYER.media_type, LAYER.digest, None)
    source = sources.source(address, IMAGE.repository)
    assert b"".join(source.blob(blob, SIZE)) == b""
    assert b"".join(source.blob(blob, SIZE - 3)) == LAYER.content[-3:]


def keep(root: Path, content: bytes) -> None:
    """As a process that was killed leaves it."""
    LocalExportDriver(root).close()
    path = root / PARTIAL
    path.parent.mkdir(mode=0o700)
    path.write_bytes(content)
    path.chmod(0o600)


def whole(root: Path) -> bool:
    """Whether the image is there, and nothing is kept of it."""
    found = root / f"v2/{IMAGE.repository}/blobs/{LAYER.digest}"
    return found.read_bytes() == LAYER.content and not kept(root) and not trees.problems(root)
