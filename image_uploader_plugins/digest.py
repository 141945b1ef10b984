# SPDX-License-Identifier: Apache-2.0
"""Digests of content, and the stream that verifies one."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator

from image_uploader_plugins import errors
from image_uploader_plugins.text import shown

_GRAMMAR = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


@dataclasses.dataclass(frozen=True, order=True)
class Digest:
    """``sha256:<64 hex>`` or ``sha512:<128 hex>``, lower case.

    Source: OCI image-spec 1.1, descriptor.md, "Digests" (the registered
    algorithms).  Raises InvalidReference for anything else, so a Digest is
    always safe as a file name.
    """

    value: str

    def __post_init__(self) -> None:
        if not isinstance(self.value, str) or not _GRAMMAR.fullmatch(self.value):
            raise errors.InvalidReference(f"not a sha256 or sha512 digest: {shown(self.value)}")

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Digest:
        """Return the digest of ``content``."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

    @property
    def algorithm(self) -> str:
        """Return the part before the colon: ``sha256`` or ``sha512``."""
        return self.value.partition(":")[0]

    @property
    def encoded(self) -> str:
        """Return the part after the colon, in hexadecimal digits."""
        return self.value.partition(":")[2]

    def verify(self, content: bytes) -> None:
        """Raise DigestMismatch unless ``content`` hashes to this digest."""
        if hashlib.new(self.algorithm, content).hexdigest() != self.encoded:
            raise errors.DigestMismatch(self, Digest.of(content, self.algorithm))

    def of_same_kind(self, chunks: Iterable[bytes]) -> Digest:
        """Return the digest of ``chunks`` by the same algorithm: this one, if they are its content.

        Raises what the chunks raise.
        """
        found = hashlib.new(self.algorithm)
        for chunk in chunks:
            found.update(chunk)
        encoded = found.hexdigest()
        return self if encoded == self.encoded else Digest(f"{self.algorithm}:{encoded}")

    def __str__(self) -> str:
        return self.value


class VerifiedStream:
    """Chunks of bytes that are hashed once while they pass.

    Iterating raises DigestMismatch or SizeMismatch *instead of* ending when the
    content is not ``expected`` or not ``size`` bytes long, so a consumer that
    publishes after its loop cannot publish bad content. More than ``size``
    bytes are refused at once, so that an endless body ends there. Empty chunks
    are skipped; they do not mean the end.

    ``digest`` (sha256 when nothing was expected) and ``size`` (bytes so far)
    describe the chunks that have passed.
    """

    def __init__(
        self, chunks: Iterable[bytes], expected: Digest | None = None, size: int | None = None
    ) -> None:
        self._chunks = chunks
        self._expected = expected
        self._expected_size = size
        self._hash = hashlib.new(expected.algorithm if expected else "sha256")
        self.size = 0

    @property
    def digest(self) -> Digest:
        """Return the digest of what has been read so far."""
        return Digest(f"{self._hash.name}:{self._hash.hexdigest()}")

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            if chunk:
                self._count(chunk)
                yield chunk
        self._check()

    def _count(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self._expected_size is not None and self.size > self._expected_size:
            raise errors.SizeMismatch(self._expected_size, self.size)
        self._hash.update(chunk)

    def _check(self) -> None:
        if self._expected_size is not None and self.size != self._expected_size:
            raise errors.SizeMismatch(self._expected_size, self.size)
        if self._expected is not None and self.digest != self._expected:
            raise errors.DigestMismatch(self._expected, self.digest)
