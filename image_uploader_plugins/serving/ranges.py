# SPDX-License-Identifier: Apache-2.0
"""Ranges: parts of the content that is served (RFC 9110, section 14)."""

from __future__ import annotations

import array
import itertools
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

# Bytes that are read at once, and that are in memory for each client.
CHUNK = 64 * 1024

# The bytes at an offset: at least one, at most as many as asked for.
Read = Callable[[int, int], bytes]

_SPEC = re.compile(r"([0-9]*)-([0-9]*)")


def asked(field: str, size: int) -> list[range] | None:
    """Return the ranges of ``size`` bytes that a Range field asks for; none can be satisfied: [].

    None for a field that is ignored: one with another unit or without the
    right form (RFC 9110, 14.2).  A range that ends before it begins counts as
    one that cannot be satisfied.  They come in the order of the field; where
    some overlap, these become one and all are in ascending order, so that
    nothing is ever sent twice (RFC 9110, 15.3.7.2).
    """
    unit, _, listed = field.partition("=")
    specs = [spec for spec in (part.strip(" \t") for part in listed.split(",")) if spec]
    matches = [_SPEC.fullmatch(spec) for spec in specs if spec != "-"]
    if unit.lower() != "bytes" or not specs or len(matches) < len(specs) or not all(matches):
        return None
    ends = (match.groups() for match in matches if match)
    spans = [_span(first, last, size) for first, last in ends]
    return _disjoint([span for span in spans if span])


def read(source: Read, span: range) -> Iterator[bytes]:
    """Yield the bytes of ``span``, at most CHUNK at a time."""
    position = span.start
    while position < span.stop:
        piece = source(position, min(CHUNK, span.stop - position))
        position += len(piece)
        yield piece


class FilePart:
    """The bytes of ``span`` in an open file, for a server that can let the kernel send them.

    Who cannot iterates; ``source`` reads then.
    """

    def __init__(self, file: BinaryIO, span: range, source: Read) -> None:
        self.file = file
        self.span = span
        self.source = source

    def __iter__(self) -> Iterator[bytes]:
        return read(self.source, self.span)


class Multipart:
    """Several ranges as one body, multipart/byteranges (RFC 9110, 14.6).

    ``media_type`` is its type with the boundary, ``length`` its size in bytes.
    """

    def __init__(self, spans: Iterable[range], size: int, media_type: str) -> None:
        # NOTE: a client may ask for thousands and be slow: sixteen bytes for each.
        self._ends = array.array("q", itertools.chain(*((s.start, s.stop) for s in spans)))
        self._size = size
        self._part_type = media_type
        self._boundary = secrets.token_hex(16)
        self.media_type = f"multipart/byteranges; boundary={self._boundary}"
        self.length = len(self._end) + sum(len(self._head(s)) + len(s) for s in self._spans())

    def read(self, source: Read) -> Iterator[bytes]:
        """Yield the body; small parts come together, up to two CHUNKs at a time."""
        gathered = bytearray()
        for piece in self._pieces(source):
            gathered += piece
            if len(gathered) >= CHUNK:
                yield bytes(gathered)
                gathered.clear()
        yield bytes(gathered)

    def _pieces(self, source: Read) -> Iterator[bytes]:
        for span in self._spans():
            yield self._head(span)
            yield from read(source, span)
        yield self._end

    def _spans(self) -> Iterator[range]:
        return itertools.starmap(range, zip(self._ends[::2], self._ends[1::2], strict=True))

    def _head(self, span: range) -> bytes:
        return (
            f"\r\n--{self._boundary}\r\nContent-Type: {self._part_type}\r\n"
            f"Content-Range: {content_range(span, self._size)}\r\n\r\n"
        ).encode()

    @property
    def _end(self) -> bytes:
        return f"\r\n--{self._boundary}--\r\n".encode()


def content_range(span: range, size: int) -> str:
    """Return the value of Content-Range (RFC 9110, 14.4)."""
    return f"bytes {span.start}-{span.stop - 1}/{size}"


def _span(first: str, last: str, size: int) -> range:
    if not first:
        return range(max(0, size - _number(last)), size)
    return range(_number(first), min(_number(last) + 1, size) if last else size)


def _number(digits: str) -> int:
    # NOTE: Python refuses to read numbers of thousands of digits; no content is that long.
    return int(digits.lstrip("0")[:19] or 0)


def _disjoint(spans: list[range]) -> list[range]:
    ascending = sorted(spans, key=lambda span: span.start)
    merged = ascending[:1]
    for span in ascending[1:]:
        if span.start < merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, span.stop))
        else:
            merged.append(span)
    return merged if len(merged) < len(spans) else spans
