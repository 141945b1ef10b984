# SPDX-License-Identifier: Apache-2.0
"""Tar files. The headers are read once; the content is read in place when it is needed.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Interchange
Format"; for files with holes GNU tar's manual, "Storing Sparse Files".
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import os
import posixpath
import select
import stat
import tarfile
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import IO, Any, Self, cast

from image_uploader_plugins import errors
from image_uploader_plugins.archives.archive_files import CHUNK, Files, clean
from image_uploader_plugins.archives.budget import Exceeded
from image_uploader_plugins.archives.compression import HEAD, Compression, InvalidCompression
from image_uploader_plugins.archives.spool import spooled
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.pace import LONGEST_WAIT
from image_uploader_plugins.storage import mapped
from image_uploader_plugins.text import shown

STANDARD_INPUT = Path("-")

_MEMBERS_LIMIT = 200_000
_NAMES_LIMIT = 32 * 1024**2  # characters of all names together
_HEADER_LIMIT = 1024 * 1024  # bytes of one member's header with its extensions
_NESTED_LIMIT = 16  # headers of one member: a name, a target and attributes have one each
_EXTENSIONS_LIMIT = 64 * 1024**2  # bytes of all members' extensions together
_LINKS_LIMIT = 8
# The fields allowed in a header for all members: none may rename or resize them.
_HARMLESS = frozenset({"comment", "atime", "ctime", "mtime", "uid", "gid", "uname", "gname"})
# The exceptions of tarfile for invalid headers.
_HEADER_ERRORS = (tarfile.TarError, ArithmeticError, LookupError, OSError, ValueError)


class _Refused(Exception):
    """Headers that tarfile accepts, but not this package."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Member:
    """A regular file, by its offset and size in bytes, or a link, by its target.

    ``parts`` are the parts of a file with holes: each has its place in the file
    and its size.
    """

    offset: int = 0
    size: int = 0
    target: str | None = None
    parts: tuple[tuple[int, int], ...] | None = None


class Tar(Files):
    """A tar file, plain or compressed. The path may be a pipe; ``-`` is standard input.

    Compressed archives and pipes are written to a temporary file first. Raises
    ArchiveInvalid if the file is not a tar or is cut off, or if a member leads
    out of the archive, occurs twice with different content, or is neither a
    file, a folder nor a link.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._size = 0
        self._file = _open(path)
        try:
            self._make_readable()
            self._length = os.fstat(self._file.fileno()).st_size
            self._members: dict[str, _Member] = {}
            self._again: list[tuple[str, _Member]] = []
            self._read_headers()
            self._check_again()
        except (InvalidCompression, Exceeded, _Refused) as e:
            self.close()
            raise errors.ArchiveInvalid(self.path, str(e)) from e
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def total(self) -> int:
        return self._size

    def size(self, name: str) -> int | None:
        member = self._resolve(name)
        return member.size if member else None

    def identity(self, name: str) -> Hashable:
        return self._present(name)

    def chunks(self, name: str) -> Iterator[bytes]:
        return self._content(name, self._present(name))

    def names(self) -> Iterator[str]:
        return (name for name, member in self._members.items() if member.target is None)

    def _content(self, name: str, member: _Member) -> Iterator[bytes]:
        if member.parts is None:
            return self._stored(name, member.offset, member.offset + member.size)
        return self._filled(name, member, member.parts)

    def _stored(self, name: str, offset: int, end: int) -> Iterator[bytes]:
        # pread, since several threads read at different offsets at the same time.
        while offset < end:
            length = min(CHUNK, end - offset)
            chunk = mapped(self.path, os.pread, self._file.fileno(), length, offset)
            if not chunk:
                raise self.invalid(name, "is cut off")
            offset += len(chunk)
            yield chunk

    def _filled(
        self, name: str, member: _Member, parts: tuple[tuple[int, int], ...]
    ) -> Iterator[bytes]:
        """Yield the bytes of a sparse file, with zeros for its holes."""
        written, offset = 0, member.offset
        for start, size in (*parts, (member.size, 0)):
            for hole in range(written, start, CHUNK):
                yield bytes(min(CHUNK, start - hole))
            yield from self._stored(name, offset, offset + size)
            written, offset = start + size, offset + size

    def _resolve(self, name: str) -> _Member | None:
        """Return the regular file that a name leads to."""
        return self._follow(name, self._members.get(self.clean(name)))

    def _follow(self, name: str, member: _Member | None) -> _Member | None:
        # NOTE: docker writes the second copy of a layer as a link.
        for _ in range(_LINKS_LIMIT):
            if member is None or member.target is None:
                return member
            member = self._members.get(member.target)
        raise self.invalid(name, f"is a link to a link, more than {_LINKS_LIMIT} times")

    def _present(self, name: str) -> _Member:
        member = self._resolve(name)
        if member is None:
            raise self.invalid(name, "is missing")
        return member

    # -- headers

    def _read_headers(self) -> None:
        end = count = names = 0
        try:
            for info, end in _headers(self._file):
                count += 1
                names += len(info.name) + len(info.linkname)
                if count > _MEMBERS_LIMIT:
                    raise _Refused(f"has more than {_MEMBERS_LIMIT} members")
                if names > _NAMES_LIMIT:
                    raise _Refused(f"has names of more than {_NAMES_LIMIT} characters")
                self._add(info, end)
        except Exceeded:
            raise
        except _HEADER_ERRORS as e:
            if not count:
                raise errors.ArchiveInvalid(self.path, f"is not a tar archive ({e})") from e
            raise self._cut(end) from e
        # NOTE: tarfile treats garbage and a cut-off header as the end of the archive.
        if self._block(end) != bytes(tarfile.BLOCKSIZE):
            raise self._cut(end)

    def _block(self, offset: int) -> bytes:
        return mapped(self.path, os.pread, self._file.fileno(), tarfile.BLOCKSIZE, offset)

    def _cut(self, offset: int) -> errors.ArchiveInvalid:
        return errors.ArchiveInvalid(self.path, f"is cut off or damaged after byte {offset}")

    def _add(self, info: tarfile.TarInfo, end: int) -> None:
        if info.isdir():
            return  # no reader asks for a folder
        name = clean(info.name)
        if name is None:
            raise self.invalid(info.name, "leads out of the archive, or is no name")
        member = self._member(name, info, end)
        if self._members.setdefault(name, member) is not member:
            self._again.append((name, member))

    def _member(self, name: str, info: tarfile.TarInfo, end: int) -> _Member:
        if info.issym():
            beside = posixpath.join(posixpath.dirname(name), info.linkname)
            return self._link(name, posixpath.normpath(beside))
        if info.islnk():
            return self._link(name, info.linkname)
        if info.sparse is not None and info.isreg():
            return self._with_holes(name, info, end)
        if not info.isreg():
            raise self.invalid(name, "is neither a file, a folder nor a link")
        if info.offset_data + info.size > self._length:
            raise self.invalid(name, "is cut off")
        return _Member(info.offset_data, info.size)

    def _link(self, name: str, target: str) -> _Member:
        cleaned = clean(target)
        if cleaned is None:
            raise self.invalid(name, "is a link that leads out of the archive")
        return _Member(target=cleaned)

    def _with_holes(self, name: str, info: tarfile.TarInfo, end: int) -> _Member:
        found: list[tuple[int, int]] = cast(Any, info.sparse)
        parts = tuple((start, size) for start, size in found if size)
        borders = [0, *(edge for start, size in parts for edge in (start, start + size)), info.size]
        if borders != sorted(borders):
            raise self.invalid(name, "has holes that make no sense")
        stored = sum(size for _, size in parts)
        if info.offset_data + stored > min(end, self._length):
            raise self.invalid(name, "is cut off")
        self.budget.spend(info.size - stored)
        return _Member(info.offset_data, info.size, parts=parts)

    # -- two members of one name

    def _check_again(self) -> None:
        """Raise ArchiveInvalid if members with one name differ in their content.

        NOTE: docker, bazel and others repeat members that several images share.
        """
        known: dict[_Member, Digest] = {}
        for name, again in self._again:
            one, other = self._resolve(name), self._follow(name, again)
            if one is None or other is None or self._differ(name, one, other, known):
                raise self.invalid(name, "is in the archive twice, and not the same")

    def _differ(
        self, name: str, one: _Member, other: _Member, known: dict[_Member, Digest]
    ) -> bool:
        """Return whether two members differ; each is read only once, also if it is repeated."""
        if one == other or one.size != other.size:
            return one != other
        for member in (one, other):
            if member not in known:
                known[member] = _hash(self._content(name, member))
        return known[one] != known[other]

    # -- where it comes from

    def _make_readable(self) -> None:
        """Write a compressed archive or a pipe to a temporary file, in which one can seek."""
        source = self._file
        status = os.fstat(source.fileno())
        lies = stat.S_ISREG(status.st_mode)
        if lies:
            self._size = status.st_size
            chunks = self._chunks_of(source.read)
        else:
            chunks = map(self._count, self._chunks_of(functools.partial(_received, source)))
        head = next(chunks, b"")
        compression = Compression.of(head)
        if lies and not compression and source.tell() == len(head):
            return
        whole = itertools.chain([head], chunks)
        with source:
            self._file = spooled(compression.unpacked(whole, self.budget) if compression else whole)
        again = Compression.of(self._block(0))
        if compression and again:
            raise InvalidCompression(
                f"is {again.name} inside of {compression.name}: unpack it first"
            )

    def _chunks_of(self, read: Callable[[int], bytes]) -> Iterator[bytes]:
        """Yield a file in chunks; the first is as long as Compression.of() needs."""
        length = HEAD
        while chunk := mapped(self.path, read, length):
            length = CHUNK
            yield chunk

    def _count(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        return chunk


def _open(path: Path) -> IO[bytes]:
    if path == STANDARD_INPUT:
        file: IO[bytes] = mapped(path, os.fdopen, mapped(path, os.dup, 0), "rb")
    else:
        file = mapped(path, path.open, "rb")
    if file.isatty():
        file.close()
        raise errors.ArchiveInvalid(path, "is a terminal: send an archive into it")
    return file


def _received(pipe: IO[bytes], length: int) -> bytes:
    """Read so many bytes from a pipe, or fewer at its end.

    Who writes may wait for ever, so each read begins when there is something.
    """
    ready = select.poll()
    ready.register(pipe, select.POLLIN)
    content = bytearray()
    while len(content) < length:
        while not ready.poll(LONGEST_WAIT * 1000):
            pass
        piece = os.read(pipe.fileno(), length - len(content))
        if not piece:
            break
        content += piece
    return bytes(content)


def _hash(chunks: Iterator[bytes]) -> Digest:
    stream = VerifiedStream(chunks)
    for _ in stream:
        pass
    return stream.digest


class _Headers:
    """A file for tarfile, which limits the size of headers.

    NOTE: tarfile reads an extension of any size into memory, calls itself for
    the header after it, and continues to read at the end of the file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.seek = file.seek
        self.tell = file.tell
        self._read = file.read
        self._member = self._headers = self._extensions = 0

    def next_header(self) -> None:
        self._headers += 1
        if self._headers > _NESTED_LIMIT:
            raise _Refused(f"has a member with more than {_NESTED_LIMIT} headers")

    def read(self, size: int = -1) -> bytes:
        self._member += size
        if size < 0 or self._member > _HEADER_LIMIT:
            raise _Refused(f"has a member whose header takes more than {_HEADER_LIMIT} bytes")
        return self._read(size)

    def next_member(self) -> None:
        self._extensions += max(0, self._member - tarfile.BLOCKSIZE)
        self._member = self._headers = 0
        if self._extensions > _EXTENSIONS_LIMIT:
            raise _Refused(f"has extended headers of more than {_EXTENSIONS_LIMIT} bytes")


class _Info(tarfile.TarInfo):
    """What tarfile reads of a member, each of its headers with a call of fromtarfile()."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        cast(_Headers, tar.fileobj).next_header()
        return super().fromtarfile(tar)


def _headers(file: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield each member, and the offset of the first byte after it."""
    headers, offset = _Headers(file), -1
    file.seek(0)
    with contextlib.closing(tarfile.open(fileobj=headers, mode="r:", tarinfo=_Info)) as tar:  # type: ignore[call-overload]
        while (info := tar.next()) is not None:
            if tar.offset <= offset:
                raise tarfile.ReadError("a member of negative size")
            unsafe = tar.pax_headers.keys() - _HARMLESS
            if unsafe:
                raise _Refused(f"has a header that says {shown(min(unsafe))} of all its members")
            offset = tar.offset
            headers.next_member()
            tar.members, tar.pax_headers = [], {}  # or tarfile would keep them all
            yield info, offset
