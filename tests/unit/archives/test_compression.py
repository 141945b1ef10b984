# SPDX-License-Identifier: Apache-2.0
"""Archives that are compressed, by whatever wrote them, and what only looks so."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from image_uploader_plugins import errors
from image_uploader_plugins.archives import budget as budgets
from image_uploader_plugins.archives.budget import Budget, Exceeded
from image_uploader_plugins.archives.compression import Compression, InvalidCompression
from image_uploader_plugins.archives.exporting.known_blobs import known_blobs
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import archives, programs
from tests.support.archives import bring

IMAGE = images.image("ns/img", "1.0", [images.layer({"file": b"one" * 3000}, oci=True)], oci=True)
LAYOUT = archives.layout([archives.entry(IMAGE, "ns/img:1.0")], archives.blobs([IMAGE]))

Compress = Callable[[bytes], bytes]
METHODS: dict[str, Compress] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
}
SKIPPABLE = b"\x53\x2a\x4d\x18\x05\x00\x00\x00other"  # RFC 8878, 3.1.2


@pytest.fixture
def memory(tmp_path: Path) -> MemoryDriver:
    return MemoryDriver(str(tmp_path))


@pytest.fixture(params=["wheel", "program"])
def zstd_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Zstandard with the wheel, and as if it were not installed."""
    if request.param == "program":
        programs.require("zstd")
        without_wheel(monkeypatch)
    return str(request.param)


def without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "backports.zstd", None)


def unpack(content: bytes, step: int = 2**20, limit: int = 2**30) -> list[bytes]:
    chunks = [content[start : start + step] for start in range(0, len(content), step)]
    found = Compression.of(content)
    assert found
    return list(found.unpacked(chunks, Budget(lambda: limit // 100)))


# -- what programs write


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["gzip", "-c"],
        ["bzip2", "-c"],
        ["xz", "-c"],
        ["xz", "-9e", "-T2", "--block-size=4096", "-c"],
        ["zstd", "-c"],
        ["zstd", "--ultra", "-22", "--no-check", "-c"],
        ["zstd", "--long=27", "-c"],
        ["pzstd", "-p", "2", "-c"],
    ],
    ids=" ".join,
)
def test_what_programs_compress(
    memory: MemoryDriver, tmp_path: Path, command: list[str], zstd_by: str
) -> None:
    """What a program compressed is recognised whatever the file is called."""
    program = programs.require(command[0], {"pzstd": "zstd", "xz": "xz-utils"}.get(command[0]))
    archives.tar(tmp_path / "plain.tar", LAYOUT)
    with (tmp_path / "packed.tar").open("wb") as packed:
        subprocess.run([program, *command[1:], tmp_path / "plain.tar"], stdout=packed, check=True)
    assert bring(tmp_path / "packed.tar", memory) == ["ns/img:1.0"]


def test_zstd_that_nothing_can_unpack(
    memory: MemoryDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_wheel(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    archives.tar(tmp_path / "plain.tar", LAYOUT)
    (tmp_path / "x").write_bytes(zstd.compress((tmp_path / "plain.tar").read_bytes()))
    with pytest.raises(
        errors.ArchiveInvalid,
        match=r"is compressed with zstd: install image-uploader-plugins\[zstd\], or the program",
    ):
        bring(tmp_path / "x", memory)


def test_compressed_twice(memory: MemoryDriver, tmp_path: Path) -> None:
    archives.tar(tmp_path / "plain.tar", LAYOUT)
    content = (tmp_path / "plain.tar").read_bytes()
    (tmp_path / "x").write_bytes(lzma.compress(gzip.compress(content)))
    with pytest.raises(errors.ArchiveInvalid, match="is gzip inside of xz: unpack it first"):
        bring(tmp_path / "x", memory)


@pytest.mark.parametrize("name", METHODS)
def test_what_the_other_side_has_may_be_compressed(tmp_path: Path, name: str) -> None:
    archives.tar(tmp_path / "plain.tar", LAYOUT)
    content = (tmp_path / "plain.tar").read_bytes()
    (tmp_path / "x").write_bytes(METHODS[name](content))
    assert known_blobs([tmp_path / "x"]) == known_blobs([tmp_path / "plain.tar"])


def test_a_name_in_a_tar_may_look_like_anything(memory: MemoryDriver, tmp_path: Path) -> None:
    archives.tar(tmp_path / "x", {"BZh91AY&SY": b"", **LAYOUT})
    assert bring(tmp_path / "x", memory) == ["ns/img:1.0"]


# -- the bytes


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
@pytest.mark.parametrize("step", [1, 7, 2**20])
@pytest.mark.parametrize("name", METHODS)
def test_unpacking_whatever_the_pieces(name: str, size: int, step: int) -> None:
    """It does not matter where pieces of the output and chunks of the input end."""
    compress, content = METHODS[name], bytes(size)
    whole = compress(content[: size // 3]) + compress(content[size // 3 :])
    pieces = unpack(whole + bytes(512), step)
    assert b"".join(pieces) == content
    assert max(map(len, pieces), default=0) <= 2**20
    with pytest.raises(InvalidCompression, match=f"is {name} that ends too early"):
        unpack(whole[:-5], step)


def test_skippable_frames(zstd_by: str) -> None:
    frame = zstd.compress(b"content")
    packed = SKIPPABLE + frame + SKIPPABLE * 3 + frame + SKIPPABLE
    assert b"".join(unpack(packed)) == b"content" * 2


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("damage", ["garbage", "flipped", "cut"])
def test_damaged(name: str, damage: str, zstd_by: str) -> None:
    packed = METHODS[name](os.urandom(5000))
    if name == "zstd":
        packed = zstd.compress(
            os.urandom(5000), options={zstd.CompressionParameter.checksum_flag: 1}
        )
    damaged = {
        "garbage": packed + b"garbage",
        "flipped": packed[:100] + bytes([packed[100] ^ 1]) + packed[101:],
        "cut": packed[:-1],
    }[damage]
    with pytest.raises(InvalidCompression, match=f"is not intact {name}|is {name} that ends"):
        unpack(damaged)


def test_what_reads_fails_while_the_program_unpacks(zstd_by: str) -> None:
    def chunks() -> object:
        yield zstd.compress(os.urandom(2**20))[:-4]
        raise errors.StorageError("/some/disk", "Input/output error")

    found = Compression.of(zstd.compress(b""))
    assert found
    with pytest.raises(errors.StorageError, match="/some/disk: Input/output error"):
        list(found.unpacked(chunks(), Budget(int)))  # type: ignore[arg-type]


# -- what must not take memory, time or disk


def streamed(size: int) -> bytes:
    compressor = zstd.ZstdCompressor()
    return compressor.compress(bytes(size)) + compressor.flush()


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_bomb(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "FLOOR", 4 * 1024**2)
    # In a stream, whose window is not as large as the whole.
    bomb = METHODS[name](bytes(64 * 1024**2)) if name != "zstd" else streamed(64 * 1024**2)
    tracemalloc.start()
    with pytest.raises(Exceeded, match="unpacks to more than 4194304 bytes"):
        unpack(bomb, limit=0)
    assert tracemalloc.get_traced_memory()[1] < 24 * 1024**2
    tracemalloc.stop()


def test_the_program_ends_with_whoever_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb is not unpacked to its end, and no process is left."""
    programs.require("zstd")
    without_wheel(monkeypatch)
    monkeypatch.setattr(budgets, "FLOOR", 4 * 1024**2)
    started: list[subprocess.Popen[bytes]] = []

    class Seen(subprocess.Popen[bytes]):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Seen)
    with pytest.raises(Exceeded):
        unpack(zstd.compress(bytes(64 * 1024**2)), limit=0)
    assert [process.returncode for process in started] == [-9]


def test_a_window_without_bound(zstd_by: str) -> None:
    """`zstd --long=31` takes 2 GiB of memory."""
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 31,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    compressor = zstd.ZstdCompressor(options=options)  # its size unknown, so the window counts
    packed = compressor.compress(b"content") + compressor.flush()
    with pytest.raises(InvalidCompression, match="takes more than 134217728 bytes of memory"):
        unpack(packed)


def test_a_dictionary_without_bound() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1024**3}]
    packed = bytearray(lzma.compress(b"content", filters=[{**filters[0], "dict_size": 4096}]))
    assert packed.count(b"\x21\x01\x00") == 1  # the filter, and a dictionary of 4 KiB
    place = packed.index(b"\x21\x01\x00")
    packed[place + 2] = 36  # of 1 GiB ("The .xz File Format", 5.3.1)
    end = 12 + packed[12] * 4  # of the block's header, whose checksum follows
    packed[end : end + 4] = zlib.crc32(packed[12:end]).to_bytes(4, "little")
    with pytest.raises(InvalidCompression, match="takes more than 134217728 bytes of memory"):
        unpack(bytes(packed))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_members_without_end_are_not_copied_for_each(name: str) -> None:
    """Many small members do not each copy all of the input that is left."""
    member = METHODS[name](b"")
    found = Compression.of(member)
    assert found
    fed: list[int] = []
    assert found._unpacker
    new: Callable[[], Any] = found._unpacker

    class Counting:
        def __init__(self) -> None:
            self._real = new()

        def decompress(self, data: bytes, length: int) -> bytes:
            fed.append(len(data))
            unpacked: bytes = self._real.decompress(data, length)
            return unpacked

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    object.__setattr__(found, "_unpacker", Counting)
    try:
        count = 2**18 // len(member)
        assert b"".join(unpack(member * count)) == b""
    finally:
        object.__setattr__(found, "_unpacker", new)
    assert max(fed) <= 16 * 1024
