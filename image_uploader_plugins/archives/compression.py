# SPDX-License-Identifier: Apache-2.0
"""Unpacking gzip, bzip2, xz and zstd, which may be bombs; the first bytes tell them apart.

Sources: RFC 1952 (gzip), RFC 8878 (Zstandard), "The .xz File Format" 1.2, and
of bzip2, which has no specification, the manual's "File format".
"""

from __future__ import annotations

import bz2
import dataclasses
import functools
import importlib
import lzma
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, Protocol, cast

from image_uploader_plugins import extras
from image_uploader_plugins.archives.budget import Budget
from image_uploader_plugins.text import one_line

HEAD = 512
"""Bytes of the beginning that tell how something is compressed."""

_PIECE = 1024 * 1024
# NOTE: what is left of a chunk is copied for each member in it; a small chunk is copied little.
_FED = 16 * 1024
_GZIP = 31  # zlib, inflateInit2: the largest window, and gzip's header
_ZSTD_WINDOW = 27
_MEMORY = 2**_ZSTD_WINDOW
"""Bytes for the dictionary: what `zstd` itself takes, and twice what `xz -9` needs."""


def is_tar(head: bytes) -> bool:
    """Tell whether ``head`` begins a tar: POSIX.1-2017, pax, "ustar Interchange Format"."""
    return head[257:262] == b"ustar"


class InvalidCompression(ValueError):
    """Compressed content that is damaged, takes too much memory, or cannot be unpacked here."""


class _Unpacker(Protocol):
    """The interface of the standard library's decompressors."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class Compression:
    """A way to compress, by its name; without ``_unpacker`` it is only known to be one."""

    name: str
    _magic: re.Pattern[bytes] = dataclasses.field(repr=False)
    _unpacker: Callable[[], _Unpacker] | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def of(cls, head: bytes) -> Compression | None:
        """Return how something is compressed that begins with ``head``; None where it is not."""
        if is_tar(head):
            return None  # the name of its first member may look like anything
        return next((known for known in _KNOWN if known._magic.match(head)), None)

    def unpacked(self, chunks: Iterable[bytes], budget: Budget) -> Iterator[bytes]:
        """Yield what ``chunks`` unpack to, in pieces of at most 1 MiB.

        Raises InvalidCompression, also where it takes what is not installed,
        and Exceeded.
        """
        for piece in self._choose()(chunks):
            budget.spend(len(piece))
            yield piece

    def _choose(self) -> Callable[[Iterable[bytes]], Iterator[bytes]]:
        new = self._unpacker
        if new is None:
            raise InvalidCompression(f"is compressed with {self.name}: unpack it first")
        try:
            new()
        except ImportError as e:
            program = shutil.which(self.name)
            if program is None:
                raise InvalidCompression(
                    f"is compressed with {self.name}: "
                    f"{extras.advice(self.name)}, or the program {self.name}"
                ) from e
            return functools.partial(self._piped, program)
        return functools.partial(self._pieces, new)

    def _pieces(self, new: Callable[[], _Unpacker], chunks: Iterable[bytes]) -> Iterator[bytes]:
        unpacker: _Unpacker | None = None
        for chunk in _small(chunks):
            rest = chunk
            while rest or (unpacker and not unpacker.needs_input):
                if unpacker is None:
                    # Another member, or what fills a tape's block.
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    unpacker = new()
                yield self._decompress(unpacker, rest)
                rest = unpacker.unused_data if unpacker.eof else b""
                unpacker = None if unpacker.eof else unpacker
        if unpacker:
            raise InvalidCompression(f"is {self.name} that ends too early")

    def _decompress(self, unpacker: _Unpacker, data: bytes) -> bytes:
        try:
            return unpacker.decompress(data, _PIECE)
        except MemoryError:
            raise
        except Exception as e:  # each library has a class of its own for it
            raise self._invalid(str(e)) from e

    def _invalid(self, said: str) -> InvalidCompression:
        if "memory" in said.lower():
            return InvalidCompression(
                f"is {self.name} that takes more than {_MEMORY} bytes of memory to unpack: "
                "compress it with a smaller dictionary or window"
            )
        return InvalidCompression(f"is not intact {self.name} ({one_line(said)})")

    def _piped(self, program: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        command = [program, "--decompress", "--stdout", "--quiet", f"--memory={_MEMORY}"]
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(  # noqa: S603 - a program from PATH, as a shell would take it
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
            ) as process,
        ):
            feeder = _Feeder(chunks, process)
            try:
                yield from iter(lambda: cast(IO[bytes], process.stdout).read(_PIECE), b"")
            except BaseException:
                process.kill()
                raise
            finally:
                feeder.join()
            feeder.check()
            if process.wait():
                said.seek(0)
                raise self._invalid(said.read(_PIECE).decode("utf-8", "replace"))


class _Feeder(threading.Thread):
    """A thread that writes chunks to a process; check() raises their error."""

    def __init__(self, chunks: Iterable[bytes], process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self._chunks = chunks
        self._process = process
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with cast(IO[bytes], self._process.stdin) as pipe:
                for chunk in self._chunks:
                    pipe.write(chunk)
        except BrokenPipeError:
            pass  # its exit status says why
        except BaseException as e:
            self._error = e
            self._process.kill()

    def check(self) -> None:
        if self._error:
            raise self._error


class _Gunzip:
    """zlib, used as the other decompressors are."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(_GZIP)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._unpacker.eof

    @property
    def needs_input(self) -> bool:
        return not (self._full or self._unpacker.unconsumed_tail or self.eof)

    @property
    def unused_data(self) -> bytes:
        return self._unpacker.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._unpacker.decompress(self._unpacker.unconsumed_tail + data, max_length)
        self._full = len(piece) == max_length
        return piece


def _xz() -> _Unpacker:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)


def _zstd() -> _Unpacker:
    # NOTE: of the two wheels there are this is the one that becomes the standard
    # library's, has the interface of the others, and tells where a frame is cut off.
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    library: Any = importlib.import_module(name)
    options = {library.DecompressionParameter.window_log_max: _ZSTD_WINDOW}
    unpacker: _Unpacker = library.ZstdDecompressor(options=options)
    return unpacker


def _small(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _FED):
            yield chunk[start : start + _FED]


_KNOWN = (
    Compression("gzip", re.compile(rb"\x1f\x8b"), _Gunzip),
    # A block, or the end of nothing at all.
    Compression("bzip2", re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), bz2.BZ2Decompressor),
    Compression("xz", re.compile(rb"\xfd7zXZ\x00"), _xz),
    # RFC 8878, 3.1.1 and 3.1.2; pzstd begins with a skippable frame.
    Compression("zstd", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), _zstd),
    Compression("lz4", re.compile(rb"\x04\x22\x4d\x18")),
    Compression("lzip", re.compile(rb"LZIP\x01")),
    Compression("compress", re.compile(rb"\x1f\x9d")),
)
