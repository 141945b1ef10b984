# SPDX-License-Identifier: Apache-2.0
"""Digests, names and references: the grammar, and what must be refused."""

from collections.abc import Iterator
from typing import Any

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag

HELLO = Digest("sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 64 + "\n",
        "sha512:" + "a" * 64,
        "md5:" + "a" * 32,
        "/etc/passwd",
        "sha256:../../../../etc/passwd",
        None,
    ],
)
def test_digest_refuses(text: Any) -> None:
    with pytest.raises(errors.InvalidReference):
        Digest(text)


def test_digest_of_known_content() -> None:
    assert Digest.of(b"hello") == HELLO
    assert Digest.of(b"", "sha512").encoded.startswith("cf83e1357eefb8bd")


def test_stream_passes_content_and_skips_empty_chunks() -> None:
    stream = VerifiedStream([b"he", b"", b"llo"], HELLO, 5)
    assert b"".join(stream) == b"hello"
    assert (stream.digest, stream.size) == (HELLO, 5)


def test_stream_raises_instead_of_ending() -> None:
    seen = []
    with pytest.raises(errors.DigestMismatch) as caught:
        for chunk in VerifiedStream([b"hullo"], HELLO):
            seen.append(chunk)
    assert seen == [b"hullo"]
    assert caught.value.expected == HELLO
    assert caught.value.actual == Digest.of(b"hullo")


def test_stream_refuses_an_endless_body_at_its_size() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1024

    with pytest.raises(errors.SizeMismatch):
        for _ in VerifiedStream(endless(), size=4096):
            pass


def test_stream_refuses_a_short_body() -> None:
    with pytest.raises(errors.SizeMismatch):
        list(VerifiedStream([b"hell"], size=5))


def test_stream_leaves_the_sources_errors_alone() -> None:
    def broken() -> Iterator[bytes]:
        yield b"he"
        raise MemoryError("source")

    with pytest.raises(MemoryError, match="source"):
        list(VerifiedStream(broken(), HELLO))


@pytest.mark.parametrize("name", ["a", "a/b", "a/b/c/d", "a__b/c-d", "a---b", "x.y/z_1"])
def test_repository_name(name: str) -> None:
    assert str(RepositoryName(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        "a/.b",
        "_a",
        "a_",
        "a..b",
        "a___b",
        "a\n",
        "a b",
        "x" * 256,
        "host:80/a",
        "a/manifests/b",
        "blobs",
        "x/tags",
        "referrers/x",
        None,
    ],
)
def test_repository_name_refuses(name: Any) -> None:
    with pytest.raises(errors.InvalidReference):
        RepositoryName(name)


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a/b", "a" * 129, "a\n", "a b", "ü", "..", None])
def test_tag_refuses(tag: Any) -> None:
    with pytest.raises(errors.InvalidReference):
        Tag(tag)


@pytest.mark.parametrize(
    ("text", "repository", "reference"),
    [
        ("a:1", "a", "1"),
        ("ns/a:1.2", "ns/a", "1.2"),
        ("localhost:5000/ns/a:1", "ns/a", "1"),
        (f"ns/a@{HELLO}", "ns/a", str(HELLO)),
        (f"ns/a:1@{HELLO}", "ns/a", str(HELLO)),
        (f"host:1/ns/a:1@{HELLO}", "ns/a", str(HELLO)),
    ],
)
def test_image_reference(text: str, repository: str, reference: str) -> None:
    ref = ImageRef.parse(text)
    assert (str(ref.repository), str(ref.reference)) == (repository, reference)
    assert ImageRef.parse(str(ref)) == ref


@pytest.mark.parametrize(
    "text", ["", "a", "localhost:5000/ns/a", "a:", "a@", "a@sha256:x", "a:b:c", f"a:!@{HELLO}"]
)
def test_image_reference_refuses(text: str) -> None:
    with pytest.raises(errors.InvalidReference):
        ImageRef.parse(text)
