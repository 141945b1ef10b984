# SPDX-License-Identifier: Apache-2.0
"""What tar, docker and others put into a tar beside files that stand there once."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.archives import budget as budgets
from image_uploader_plugins.archives import tar as reading
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import archives, programs
from tests.support.archives import bring, member

PLAIN = images.layer({"file": bytes(300_000) + b"end"}, plain=True)
IMAGE = images.image("ns/img", "1.0", [PLAIN])
SAVED = archives.docker_archive(IMAGE, ["ns/img:1.0"], {"one": PLAIN.content})
LAYER = "one/layer.tar"


@pytest.fixture
def memory(tmp_path: Path) -> MemoryDriver:
    return MemoryDriver(str(tmp_path))


def imported(path: Path, memory: MemoryDriver, image: Image = IMAGE) -> bool:
    assert bring(path, memory) == ["ns/img:1.0"]
    return all(
        layer.digest in memory.repositories[image.repository].blobs
        for layer in image.manifest.layers
    )


# -- a name twice


@pytest.mark.parametrize(
    "again",
    [
        [member(LAYER, PLAIN.content)],
        [member(f"./{LAYER}", PLAIN.content)] * 3,
        [member(LAYER, type=tarfile.LNKTYPE, linkname=LAYER)],
        [member("x", PLAIN.content), member(LAYER, type=tarfile.LNKTYPE, linkname="x")],
        [member(LAYER, type=tarfile.SYMTYPE, linkname="../x"), member("x", PLAIN.content)],
        [member("manifest.json", SAVED["manifest.json"])],
    ],
    ids=["once more", "another spelling", "itself", "a hard link", "a symbolic link", "a list"],
)
def test_a_name_twice_with_the_same_content(
    memory: MemoryDriver, tmp_path: Path, again: list[tuple[tarfile.TarInfo, bytes]]
) -> None:
    archives.tar(tmp_path / "x", SAVED, again)
    assert imported(tmp_path / "x", memory)


def test_what_stands_there_often_is_read_once(
    memory: MemoryDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    pread = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        read.append(offset)
        return pread(descriptor, length, offset)

    links = [member(LAYER, type=tarfile.LNKTYPE, linkname="x") for _ in range(100)]
    archives.tar(tmp_path / "x", SAVED, [member("x", PLAIN.content), *links])
    with tarfile.open(tmp_path / "x") as archive:
        names = {info.offset_data: info.name for info in archive if info.isreg()}
    begins = [offset for offset, name in names.items() if name in ("x", LAYER)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", counted)
        with contextlib.closing(reading.Tar(tmp_path / "x")):
            assert [read.count(offset) for offset in begins] == [1, 1]
    assert imported(tmp_path / "x", memory)


@pytest.mark.parametrize(
    "link", [member(LAYER, type=tarfile.LNKTYPE, linkname=n) for n in ("nowhere", "manifest.json")]
)
def test_a_name_twice_that_leads_elsewhere(
    memory: MemoryDriver, tmp_path: Path, link: tuple[tarfile.TarInfo, bytes]
) -> None:
    archives.tar(tmp_path / "x", SAVED, [link])
    with pytest.raises(errors.ArchiveInvalid, match="in the archive twice, and not the same"):
        bring(tmp_path / "x", memory)


# -- holes


@pytest.mark.parametrize(
    "form",
    [
        ["--format=gnu"],
        ["--format=pax", "--sparse-version=0.0"],
        ["--format=pax", "--sparse-version=0.1"],
        ["--format=pax", "--sparse-version=1.0"],
    ],
    ids=" ".join,
)
def test_files_with_holes(memory: MemoryDriver, tmp_path: Path, form: list[str]) -> None:
    """``tar --sparse`` packs a file with many holes and one at the end."""
    content = b"".join(os.urandom(4096) + bytes(65536) for _ in range(30)) + bytes(1024**2)
    image = images.image("ns/img", "1.0", [images.layer({"file": content}, plain=True)])
    saved = archives.docker_archive(
        image, ["ns/img:1.0"], {"one": next(iter(image.blobs.values()))}
    )
    layer = next(c for d, c in image.blobs.items() if d == image.manifest.layers[0].digest)
    folder = archives.folder(tmp_path / "folder", {**saved, LAYER: layer})
    holed(folder / LAYER, layer)
    command = [programs.require("tar"), *form, "--sparse", "-C", str(folder)]
    subprocess.run([*command, "-cf", str(tmp_path / "x"), "."], check=True)
    assert (tmp_path / "x").stat().st_size < len(layer) // 2
    assert imported(tmp_path / "x", memory, image)


def holed(path: Path, content: bytes) -> None:
    """Write a file that has holes where there are zeros."""
    with path.open("wb") as file:
        for start in range(0, len(content), 4096):
            piece = content[start : start + 4096]
            if piece.strip(b"\0"):
                file.seek(start)
                file.write(piece)
        file.truncate(len(content))


def holes(size: int, parts: list[tuple[int, int]]) -> bytes:
    """Return a member in GNU's format for files with holes."""
    info = tarfile.TarInfo("oci-layout")
    info.type = tarfile.GNUTYPE_SPARSE
    info.size = sum(length for _, length in parts)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    for number, part in enumerate(parts):
        place = 386 + 24 * number
        header[place : place + 24] = b"".join(b"%011o\0" % value for value in part)
    header[483:495] = b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(-(-info.size // 512) * 512) + bytes(1024)


@pytest.mark.parametrize(
    ("size", "parts", "refused"),
    [
        (2**62, [(0, 512)], "unpacks to more than 1073741824 bytes"),
        (2**20, [(1024, 512), (512, 512)], "has holes that make no sense"),
        (2**20, [(0, 1024), (512, 512)], "has holes that make no sense"),
        (2**10, [(0, 2048)], "has holes that make no sense"),
    ],
)
def test_holes_that_make_no_sense(
    memory: MemoryDriver, tmp_path: Path, size: int, parts: list[tuple[int, int]], refused: str
) -> None:
    (tmp_path / "x").write_bytes(holes(size, parts))
    with pytest.raises(errors.ArchiveInvalid, match=refused):
        bring(tmp_path / "x", memory)


def test_a_file_with_a_hole(memory: MemoryDriver, tmp_path: Path) -> None:
    """What the table above changes in one place is accepted without the change."""
    (tmp_path / "x").write_bytes(holes(2**10, [(0, 512)]))
    with pytest.raises(errors.ArchiveInvalid, match="oci-layout is not JSON"):
        bring(tmp_path / "x", memory)


# -- headers for all members


@pytest.mark.parametrize("fields", [{"comment": "c"}, {"mtime": "1.5", "uname": "somebody"}])
def test_what_a_header_may_say_of_all_members(
    memory: MemoryDriver, tmp_path: Path, fields: dict[str, str]
) -> None:
    """git archive writes a global header with a comment."""
    with tarfile.open(tmp_path / "x", "w", pax_headers=fields) as archive:
        for info, content in (member(*item) for item in SAVED.items()):
            archive.addfile(info, io.BytesIO(content))
    assert imported(tmp_path / "x", memory)


# -- bounds


@pytest.mark.parametrize(
    ("bound", "value", "refused"),
    [
        ("_NAMES_LIMIT", 80, "has names of more than 80 characters"),
        ("_EXTENSIONS_LIMIT", 1000, "has extended headers of more than 1000 bytes"),
        ("_MEMBERS_LIMIT", 3, "has more than 3 members"),
    ],
)
def test_headers_without_end(
    memory: MemoryDriver,
    tmp_path: Path,
    bound: str,
    value: int,
    refused: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert getattr(reading, bound) > value
    monkeypatch.setattr(reading, bound, value)
    folders = [member(f"{n}", type=tarfile.DIRTYPE, pax_headers={"comment": "c"}) for n in range(4)]
    with tarfile.open(tmp_path / "x", "w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in (*(member(*item) for item in SAVED.items()), *folders):
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(errors.ArchiveInvalid, match=refused):
        bring(tmp_path / "x", memory)


def test_holes_count_as_what_is_unpacked(
    memory: MemoryDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "FLOOR", 2**20)
    (tmp_path / "x").write_bytes(holes(2**21, [(0, 512)]))
    with pytest.raises(errors.ArchiveInvalid, match="unpacks to more than 1048576 bytes"):
        bring(tmp_path / "x", memory)
