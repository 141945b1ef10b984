# SPDX-License-Identifier: Apache-2.0
"""Which parts a Range asks for (RFC 9110, 14.1.2 and 14.2), and what they cost."""

from __future__ import annotations

import email.parser
import email.policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_uploader_plugins.serving import ranges

SIZE = 1000


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=0-9", [range(0, 10)]),
        ("Bytes=0-9", [range(0, 10)]),
        ("bytes=0-", [range(SIZE)]),
        ("bytes=990-5000", [range(990, SIZE)]),
        ("bytes=-10", [range(990, SIZE)]),
        ("bytes=-5000", [range(SIZE)]),
        ("bytes=0-9,20-29", [range(0, 10), range(20, 30)]),
        ("bytes=0-9 ,\t20-29, ,", [range(0, 10), range(20, 30)]),
        # In the order asked for, next to each other too.
        ("bytes=20-29,0-9", [range(20, 30), range(0, 10)]),
        ("bytes=0-9,10-19", [range(0, 10), range(10, 20)]),
        # What overlaps is sent once.
        ("bytes=0-9,5-19", [range(0, 20)]),
        ("bytes=50-,0-0,0-0,-1", [range(0, 1), range(50, SIZE)]),
        ("bytes=0-99,10-20", [range(0, 100)]),
        # What cannot be satisfied is left out.
        ("bytes=1000-,0-0", [range(0, 1)]),
        ("bytes=1000-1001", []),
        ("bytes=-0", []),
        ("bytes=5-4", []),
        ("bytes=5-4,7-7", [range(7, 8)]),
        ("bytes=" + "9" * 6000 + "-", []),
        ("bytes=0-" + "9" * 6000, [range(SIZE)]),
        ("bytes=-" + "9" * 6000, [range(SIZE)]),
        ("bytes=" + "0" * 6000 + "5-5", [range(5, 6)]),
    ],
)
def test_what_is_asked_for(field: str, expected: list[range]) -> None:
    assert ranges.asked(field, SIZE) == expected


@pytest.mark.parametrize(
    "field",
    [
        *("", "bytes", "bytes=", "bytes=-", "bytes=,", "bytes=a-b", "bytes=1", "bytes 0-1"),
        *("items=0-1", "bytes =0-1", "bytes=0-1;2-3", "bytes=0-1,x", "bytes=0-1,-"),
        *("bytes=--1", "bytes=1-2-3", "bytes=+1-2", "bytes=\u0661-2", "bytes=0x1-2", "bytes=1 -2"),
        *("bytes=0-1, bytes=2-3", "bytes==0-1", "none"),
    ],
)
def test_what_is_ignored(field: str) -> None:
    assert ranges.asked(field, SIZE) is None


CONTENT = bytes(range(256)) * 1000


def source(offset: int, count: int) -> bytes:
    """A file that gives less at a time than it is asked for."""
    return CONTENT[offset : offset + min(count, 3000)]


ENDS = st.tuples(st.integers(0, SIZE + 10), st.integers(0, SIZE + 10))


@settings(deadline=None)
@given(st.lists(ENDS, min_size=1, max_size=40))
def test_nothing_is_sent_twice(ends: list[tuple[int, int]]) -> None:
    field = ",".join(f"{first}-{last}" for first, last in ends)
    spans = ranges.asked(f"bytes={field}", SIZE)
    assert spans is not None
    sent = [position for span in spans for position in span]
    wanted = {position for first, last in ends for position in range(first, last + 1)}
    assert len(sent) == len(set(sent))
    assert set(sent) == wanted & set(range(SIZE))


@pytest.mark.slow
@pytest.mark.parametrize(
    "spans",
    [
        [range(0, 1), range(5, 9)],
        [range(100_000, 256_000), range(0, 100_000)],
        [range(n, n + 1) for n in range(0, 16_000, 2)],
    ],
)
def test_multipart(spans: list[range]) -> None:
    """A parser of MIME reads the body, which has the announced length and comes in small pieces."""
    parts = ranges.Multipart(spans, len(CONTENT), "application/octet-stream")
    pieces = list(parts.read(source))
    body = b"".join(pieces)
    assert len(body) == parts.length
    assert max(map(len, pieces)) < 2 * ranges.CHUNK
    assert parts.length < sum(map(len, spans)) + 160 * (len(spans) + 1)
    head = f"Content-Type: {parts.media_type}\r\n\r\n".encode()
    policy = email.policy.HTTP
    message = email.parser.BytesParser(policy=policy).parsebytes(head + body)
    found = list(message.iter_parts())
    assert [part["Content-Range"] for part in found] == [
        f"bytes {span.start}-{span.stop - 1}/{len(CONTENT)}" for span in spans
    ]
    assert {part["Content-Type"] for part in found} == {"application/octet-stream"}
    boundary = parts.media_type.partition("boundary=")[2].encode()
    content = [part.partition(b"\r\n\r\n")[2] for part in body.split(b"\r\n--" + boundary)[1:-1]]
    assert content == [CONTENT[span.start : span.stop] for span in spans]
