"""The exception tree: one class per cause, its data in attributes.

``retryable`` tells a host whether doing the same again can help.  Every
constructor takes just the data it keeps, so the exceptions survive pickling
on their way back from a worker process.
"""

from __future__ import annotations

import dataclasses
import http
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from image_uploader_plugins.text import one_line, redacted

_LISTED = 10  # of many, in a message

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""RFC 9110, 15: worth another try; every other status above 399 is an answer."""


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED]) + (f" and {more} more" if more > 0 else "")


class UploaderError(Exception):
    """Base of everything this package raises on purpose."""

    retryable = False


class ConfigurationError(UploaderError):
    """An option or a driver's name that cannot work."""


class Interrupted(UploaderError):
    """Work that was given up because the whole run was told to stop."""


class InvalidReference(UploaderError, ValueError):
    """A repository name, tag, digest or image reference outside its grammar."""


class ManifestInvalid(UploaderError, ValueError):
    """A manifest that breaks its specification, or its own description."""


class ContentMismatch(UploaderError):
    """Content that is not what its descriptor says.

    Retryable: a transfer that went bad on the way looks just like this.
    """

    retryable = True


class DigestMismatch(ContentMismatch):
    """The bytes hash to ``actual`` where ``expected`` was promised."""

    def __init__(self, expected: object, actual: object) -> None:
        super().__init__(expected, actual)
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return f"content hashes to {self.actual}, expected {self.expected}"


class SizeMismatch(ContentMismatch):
    """Content of ``actual`` bytes (at least) where ``expected`` were promised."""

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(expected, actual)
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return f"content has {self.actual} bytes, expected {self.expected}"


class BlobUnknown(UploaderError):
    """A manifest references blobs that its repository does not hold as described.

    ``sizes`` says of those that are there how many bytes they have, and how
    many the manifest says; the others are missing.
    """

    def __init__(
        self,
        digests: Iterable[object],
        sizes: Mapping[object, tuple[int, int | None]] = MappingProxyType({}),
    ) -> None:
        self.digests = tuple(digests)
        self.sizes = dict(sizes)
        super().__init__(self.digests, self.sizes)

    def __str__(self) -> str:
        missing = [str(digest) for digest in self.digests if digest not in self.sizes]
        wrong = [f"{d} has {a} bytes instead of {b}" for d, (a, b) in self.sizes.items()]
        parts = [f"blobs not in the repository: {_listed(missing)}"] if missing else []
        if wrong:
            parts.append(
                f"{_listed(wrong)}: damaged, which --check-present with the upload or "
                "'image-uploader verify --repair' mends, or the manifest is wrong"
            )
        return "; ".join(parts)


@dataclasses.dataclass(frozen=True)
class Doubt:
    """A tag or manifest, as clients know it, that cannot be read.

    ``reason`` begins with its path; ``images`` are the tags that lead to it.
    """

    name: str
    reason: str
    images: tuple[str, ...] = ()

    def __str__(self) -> str:
        images = f" ({', '.join(self.images[:_LISTED])})" if self.images else ""
        return f"{self.reason}{images}"

    @property
    def advice(self) -> str:
        """What helps."""
        if not self.images:
            return f"delete {self.name} if nobody needs it"
        images = ", ".join(self.images[:_LISTED])
        also = "" if self.images == (self.name,) else f" and then {self.name}"
        return f"upload {images} again (image-uploader upload or prepare), or delete {images}{also}"


class NeedUnknown(ManifestInvalid):
    """Content that stays since ``doubts`` cannot be read, and may need it.

    ``deletion`` is what a delete took away all the same, besides names.
    """

    def __init__(self, doubts: Iterable[Doubt], deletion: Any = None) -> None:
        self.doubts = tuple(doubts)
        self.deletion = deletion
        super().__init__(self.doubts, deletion)

    def __str__(self) -> str:
        first, *others = self.doubts
        more = f"; so may {len(others)} more that cannot be read" if others else ""
        return f"{first}: it may need anything, so nothing else goes: {first.advice}{more}"


class ImageUnknown(UploaderError):
    """No such repository, tag or manifest."""


class TransferTooSlow(UploaderError):
    """A server that was given up: ``server`` gave too few bytes in too much time.

    Retryable, unless it took all the time there is: another connection may
    lead to one that is faster.
    """

    def __init__(self, server: str, reason: str, retryable: bool = True) -> None:
        super().__init__(server, reason, retryable)
        self.server = server
        self.reason = reason
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.server} is too slow: {self.reason}"


class ArchiveInvalid(UploaderError):
    """An archive at ``path`` that is damaged, or not of a kind that is known."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class StorageError(UploaderError):
    """The storage below a driver failed at ``path``."""

    def __init__(self, path: object, reason: str = "") -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.reason else str(self.path)


class StorageFull(StorageError):
    """No space or quota left."""


class StorageDenied(StorageError):
    """Not permitted, or a read-only file system."""


class RegistryError(UploaderError):
    """An answer of a registry, or with ``login`` of its token server, that is a refusal.

    ``url`` is shown without its user and query; ``status`` is HTTP's, ``code``
    and ``message`` are what the registry says (OCI distribution-spec 1.1,
    "Error Codes"), in one line, "" where it says nothing.
    """

    def __init__(
        self, url: str, status: int, code: str = "", message: str = "", login: bool = False
    ) -> None:
        url, code, message = (one_line(redacted(text), 300) for text in (url, code, message))
        super().__init__(url, status, code, message, login)
        self.url = url
        self.status = status
        self.code = code
        self.message = message
        self.login = login

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        """Whether doing the same again can help (RFC 9110, 15)."""
        return self.status in TRANSIENT_STATUSES

    def __str__(self) -> str:
        said = ": ".join(filter(None, (self.code, self.message))) or _phrase(self.status)
        doing = "cannot log in at " if self.login else ""
        hint = ""
        if self.status == http.HTTPStatus.UNAUTHORIZED:
            hint = " (credentials are missing or wrong, or there is no such image)"
        return f"{doing}{self.url}: {self.status} {said}{hint}"


class RegistryUnreachable(UploaderError):
    """No answer from a registry at ``url``, which is shown without its user and query."""

    def __init__(self, url: str, reason: str, retryable: bool = True) -> None:
        url, reason = one_line(redacted(url), 300), one_line(redacted(reason), 300)
        super().__init__(url, reason, retryable)
        self.url = url
        self.reason = reason
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


class RateLimited(UploaderError):
    """A registry that asks to wait for longer than a request may: ``seconds`` of ``total``."""

    def __init__(self, registry: str, seconds: float, total: float) -> None:
        super().__init__(registry, seconds, total)
        self.registry = registry
        self.seconds = seconds
        self.total = total

    def __str__(self) -> str:
        return (
            f"{self.registry} limits how much is asked: it wants {self.seconds:.0f} seconds of "
            f"waiting, and a request waits for {self.total:.0f} at most ([image_uploader] "
            "longest_pause)"
        )


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"
