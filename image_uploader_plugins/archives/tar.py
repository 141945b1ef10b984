"""A tar, read where it lies: its headers once, its content wherever it is asked for.

Sources: POSIX.1-2017, pax, "ustar Interchange Format"; RFC 1952 (gzip).
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import posixpath
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from image_uploader_plugins import errors
from image_uploader_plugins.archives.files import CHUNK, Files, clean
from image_uploader_plugins.local_export.storage import mapped

_GZIP = b"\x1f\x8b"
_OTHERS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
# gzip gives at most 1032 bytes for one; layers rarely more than ten.
_RATIO_LIMIT = 100
_RATIO_FLOOR = 1024**3
_MEMBERS_LIMIT = 200_000
_HEADER_LIMIT = 1024 * 1024  # bytes for one member, with all its extensions
_LINKS_LIMIT = 8
# What tarfile raises for headers that make no sense.
_HEADER_ERRORS = (
    *(tarfile.TarError, ArithmeticError, LookupError, OSError, RecursionError, ValueError),
)


@dataclasses.dataclass(frozen=True)
class _Member:
    """``kind`` is "file", "link" or why it is neither; offset and size in bytes."""

    kind: str
    offset: int = 0
    size: int = 0
    target: str | None = None


class Tar(Files):
    """A tar file, plain or gzip; the latter is unpacked once, to a nameless temporary file.

    A tar that ends too early is ``damage``; what comes before can be read.
    Raises ArchiveInvalid for what is no tar at all.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file: IO[bytes] = mapped(path, path.open, "rb")
        try:
            self._unpack()
            self._length = os.fstat(self._file.fileno()).st_size
            self._members: dict[str, _Member] = {}
            self._read_headers()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def size(self, name: str) -> int | None:
        member = self._resolve(name)
        return member.size if member else None

    def chunks(self, name: str) -> Iterator[bytes]:
        member = self._resolve(name)
        if member is None:
            raise self.invalid(name, "is missing")
        return self._chunks(name, member)

    def names(self) -> Iterator[str]:
        return (name for name, member in self._members.items() if member.kind == "file")

    def _chunks(self, name: str, member: _Member) -> Iterator[bytes]:
        # pread: several threads read at once, each somewhere else.
        offset, end = member.offset, member.offset + member.size
        while offset < end:
            length = min(CHUNK, end - offset)
            chunk = mapped(self.path, os.pread, self._file.fileno(), length, offset)
            if not chunk:
                raise self.invalid(name, "is cut off")
            offset += len(chunk)
            yield chunk

    def _resolve(self, name: str) -> _Member | None:
        """The regular file that a name leads to, through links that stay inside."""
        here = self.clean(name)
        for _ in range(_LINKS_LIMIT):
            member = self._members.get(here)
            if member is None or member.kind == "file":
                return member
            if member.kind != "link":
                raise self.invalid(name, member.kind)
            if member.target is None:
                raise self.invalid(name, "is a link that leads out of the archive")
            here = member.target
        raise self.invalid(name, f"is a link to a link, more than {_LINKS_LIMIT} times")

    # -- headers

    def _read_headers(self) -> None:
        end = 0
        try:
            for info, end in _headers(self._file):
                self._add(info)
        except _HEADER_ERRORS as e:
            if not self._members:
                raise errors.ArchiveInvalid(self.path, f"not a tar archive ({e})") from e
            self.damage = self.damage or f"damaged after byte {end} ({e})"
        else:
            self._look_for_end(end)

    def _look_for_end(self, end: int) -> None:
        # NOTE: tarfile takes garbage and a cut-off header for the end.
        block = os.pread(self._file.fileno(), tarfile.BLOCKSIZE, end)
        if block != bytes(tarfile.BLOCKSIZE):
            self.damage = self.damage or f"cut off or damaged after byte {end}"

    def _add(self, info: tarfile.TarInfo) -> None:
        name = clean(info.name)
        if name is None or info.isdir():
            return  # nobody can ask for it
        if name in self._members:
            self._members[name] = _Member("is in the archive twice")
        elif len(self._members) >= _MEMBERS_LIMIT:
            raise errors.ArchiveInvalid(self.path, f"has more than {_MEMBERS_LIMIT} files")
        else:
            self._members[name] = self._member(name, info)

    def _member(self, name: str, info: tarfile.TarInfo) -> _Member:
        if info.issym():
            beside = posixpath.join(posixpath.dirname(name), info.linkname)
            return _Member("link", target=clean(posixpath.normpath(beside)))
        if info.islnk():
            return _Member("link", target=clean(info.linkname))
        if not info.isreg() or info.issparse():
            return _Member("is no regular file")
        if info.offset_data + info.size > self._length:
            self.damage = f"cut off within {name!r:.200}"
            return _Member("is cut off")
        return _Member("file", info.offset_data, info.size)

    # -- compression

    def _unpack(self) -> None:
        head = os.pread(self._file.fileno(), 8, 0)
        for magic, method in _OTHERS.items():
            if head.startswith(magic):
                raise errors.ArchiveInvalid(
                    self.path, f"compressed with {method}: unpack it first"
                )
        if not head.startswith(_GZIP):
            return
        packed, self._file = self._file, tempfile.TemporaryFile()  # noqa: SIM115 - close() does
        with packed:
            for chunk in unpacked(packed, self.path):
                mapped(Path(tempfile.gettempdir()), self._file.write, chunk)
        mapped(Path(tempfile.gettempdir()), self._file.flush)


def unpacked(packed: IO[bytes], path: Path) -> Iterator[bytes]:
    """What gzip packed, piece by piece; raises ArchiveInvalid, also for a bomb."""
    size = os.fstat(packed.fileno()).st_size
    limit = max(_RATIO_FLOOR, _RATIO_LIMIT * size)
    total = 0
    with gzip.GzipFile(fileobj=packed) as stream:
        while True:
            try:
                chunk = stream.read(CHUNK)
            except (EOFError, OSError, zlib.error) as e:
                raise errors.ArchiveInvalid(path, f"not intact gzip ({e})") from e
            if not chunk:
                return
            total += len(chunk)
            if total > limit:
                raise errors.ArchiveInvalid(
                    path, f"has {size} bytes and unpacks to more than {limit}"
                )
            yield chunk


class _Headers:
    """A file as tarfile reads it, with a bound on what one member's headers may take.

    NOTE: tarfile reads an extension of whatever size its header says into
    memory, and reads on at the end of the file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.seek = file.seek
        self.tell = file.tell
        self._read = file.read
        self.budget = _HEADER_LIMIT

    def read(self, size: int = -1) -> bytes:
        self.budget -= size
        if size < 0 or self.budget < 0:
            raise tarfile.ReadError(f"a header takes more than {_HEADER_LIMIT} bytes")
        return self._read(size)


def _headers(file: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Each member, and the byte after it."""
    headers, offset = _Headers(file), -1
    file.seek(0)
    with contextlib.closing(tarfile.open(fileobj=headers, mode="r:")) as tar:  # type: ignore[call-overload]
        while (info := tar.next()) is not None:
            if tar.offset <= offset:
                raise tarfile.ReadError("a member of negative size")
            offset, headers.budget = tar.offset, _HEADER_LIMIT
            tar.members = []  # or it keeps them all
            yield info, offset
