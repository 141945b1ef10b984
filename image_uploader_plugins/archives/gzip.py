"""Unpacking gzip that may be a bomb.

Source: RFC 1952.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

MAGIC = b"\x1f\x8b"

# gzip gives at most 1032 bytes for one; layers rarely more than ten.
_RATIO_LIMIT = 100
_RATIO_FLOOR = 1024**3
_PIECE = 1024 * 1024
_GZIP = 31  # zlib, inflateInit2: the largest window, and gzip's header


class InvalidGzip(ValueError):
    """What is no gzip, is damaged, or unpacks to too much."""


def bound(size: int) -> int:
    """The bytes that an honest gzip of ``size`` bytes may unpack to."""
    return max(_RATIO_FLOOR, _RATIO_LIMIT * size)


def unpacked(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """What ``chunks`` unpack to, in pieces of at most 1 MiB.

    Raises InvalidGzip, also for more than ``limit`` bytes.
    """
    total = 0
    try:
        for piece in _pieces(chunks):
            total += len(piece)
            if total > limit:
                raise InvalidGzip(f"unpacks to more than {limit} bytes")
            yield piece
    except zlib.error as e:
        raise InvalidGzip(f"is not intact gzip ({e})") from e


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(_GZIP)
    for chunk in chunks:
        rest, full = chunk, False
        while rest or full:
            if unpacker.eof:
                # Another member (section 2.2), or what fills a tape's block.
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                unpacker = zlib.decompressobj(_GZIP)
            piece = unpacker.decompress(rest, _PIECE)
            full = len(piece) == _PIECE
            rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            yield piece
    if not unpacker.eof:
        raise InvalidGzip("is gzip that ends too early")
