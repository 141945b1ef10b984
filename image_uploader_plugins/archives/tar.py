"""A tar, read where it lies: its headers once, its content wherever it is asked for.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange Format".
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from image_uploader_plugins import errors
from image_uploader_plugins.archives import gzip
from image_uploader_plugins.archives.files import CHUNK, Files, clean, open_file
from image_uploader_plugins.local_export.storage import mapped

_OTHERS = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_MEMBERS_LIMIT = 200_000
_HEADER_LIMIT = 1024 * 1024  # bytes for one member, with all its extensions
_LINKS_LIMIT = 8
# What tarfile raises for headers that make no sense.
_HEADER_ERRORS = (
    *(tarfile.TarError, ArithmeticError, LookupError, OSError, RecursionError, ValueError),
)


@dataclasses.dataclass(frozen=True)
class _Member:
    """A regular file by its offset and size in bytes, or a link by its target."""

    offset: int = 0
    size: int = 0
    target: str | None = None


class Tar(Files):
    """A tar file, plain or gzip; the latter is unpacked once, to a nameless temporary file.

    Raises ArchiveInvalid for what is no tar, or is cut off; for a member that
    leads out of it, stands in it twice, or is neither file, folder nor link.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = open_file(path)
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
        return self._chunks(name, member.offset, member.offset + member.size)

    def names(self) -> Iterator[str]:
        return (name for name, member in self._members.items() if member.target is None)

    def _chunks(self, name: str, offset: int, end: int) -> Iterator[bytes]:
        # pread: several threads read at once, each somewhere else.
        while offset < end:
            length = min(CHUNK, end - offset)
            chunk = mapped(self.path, os.pread, self._file.fileno(), length, offset)
            if not chunk:
                raise self.invalid(name, "is cut off")
            offset += len(chunk)
            yield chunk

    def _resolve(self, name: str) -> _Member | None:
        """The regular file that a name leads to.

        NOTE: docker writes a layer that is in an archive twice as a link.
        """
        here = self.clean(name)
        for _ in range(_LINKS_LIMIT):
            member = self._members.get(here)
            if member is None or member.target is None:
                return member
            here = member.target
        raise self.invalid(name, f"is a link to a link, more than {_LINKS_LIMIT} times")

    # -- headers

    def _read_headers(self) -> None:
        end = 0
        try:
            for info, end in _headers(self._file):  # noqa: B007 - asked for below
                self._add(info)
        except _HEADER_ERRORS as e:
            if not self._members:
                raise errors.ArchiveInvalid(self.path, f"is not a tar archive ({e})") from e
            raise self._cut(end) from e
        # NOTE: tarfile takes garbage and a cut-off header for the end.
        if self._block(end) != bytes(tarfile.BLOCKSIZE):
            raise self._cut(end)

    def _block(self, offset: int) -> bytes:
        return mapped(self.path, os.pread, self._file.fileno(), tarfile.BLOCKSIZE, offset)

    def _cut(self, offset: int) -> errors.ArchiveInvalid:
        return errors.ArchiveInvalid(self.path, f"is cut off or damaged after byte {offset}")

    def _add(self, info: tarfile.TarInfo) -> None:
        if info.isdir():
            return  # nobody asks for one
        name = clean(info.name)
        if name is None:
            raise self.invalid(info.name, "leads out of the archive, or is no name")
        if name in self._members:
            raise self.invalid(name, "is in the archive twice")
        if len(self._members) >= _MEMBERS_LIMIT:
            raise errors.ArchiveInvalid(self.path, f"has more than {_MEMBERS_LIMIT} files")
        self._members[name] = self._member(name, info)

    def _member(self, name: str, info: tarfile.TarInfo) -> _Member:
        if info.issym():
            beside = posixpath.join(posixpath.dirname(name), info.linkname)
            return self._link(name, posixpath.normpath(beside))
        if info.islnk():
            return self._link(name, info.linkname)
        if not info.isreg() or info.issparse():
            raise self.invalid(name, "is neither a file, a folder nor a link")
        if info.offset_data + info.size > self._length:
            raise self.invalid(name, "is cut off")
        return _Member(info.offset_data, info.size)

    def _link(self, name: str, target: str) -> _Member:
        cleaned = clean(target)
        if cleaned is None:
            raise self.invalid(name, "is a link that leads out of the archive")
        return _Member(target=cleaned)

    # -- compression

    def _unpack(self) -> None:
        head = self._block(0)
        for magic, method in _OTHERS.items():
            if head.startswith(magic):
                reason = f"is compressed with {method}: unpack it first"
                raise errors.ArchiveInvalid(self.path, reason)
        if not head.startswith(gzip.MAGIC):
            return
        limit = gzip.bound(os.fstat(self._file.fileno()).st_size)
        folder = Path(tempfile.gettempdir())
        packed, self._file = self._file, mapped(folder, tempfile.TemporaryFile)
        with packed:
            try:
                for piece in gzip.unpacked(self._chunks_of(packed), limit):
                    mapped(folder, self._file.write, piece)
            except gzip.InvalidGzip as e:
                raise errors.ArchiveInvalid(self.path, str(e)) from e
        mapped(folder, self._file.flush)

    def _chunks_of(self, file: IO[bytes]) -> Iterator[bytes]:
        while chunk := mapped(self.path, file.read, CHUNK):
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
            if tar.pax_headers.keys() - {"comment"}:
                raise tarfile.ReadError("a header for all members")  # it could rename them
            offset, headers.budget = tar.offset, _HEADER_LIMIT
            tar.members, tar.pax_headers = [], {}  # or it keeps them all
            yield info, offset
