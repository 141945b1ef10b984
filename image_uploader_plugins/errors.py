# SPDX-License-Identifier: Apache-2.0
"""The exceptions of this package, grouped by who is at fault.

What happened is in their attributes, so that nobody need read a message::

    UploaderError
    ├── Interrupted               nobody: the run was told to stop
    ├── UsageError                the caller, or the configuration
    │   ├── ConfigurationError
    │   ├── InvalidReference      (ValueError)
    │   └── ImageUnknown
    ├── SourceError               a registry, the network or an archive
    │   ├── RegistryError
    │   ├── RegistryUnreachable
    │   ├── RateLimited
    │   ├── TransferTooSlow
    │   └── ArchiveInvalid
    ├── ContentError              what was copied, or is stored
    │   ├── ManifestInvalid       (ValueError)
    │   │   └── NeedUnknown
    │   ├── ContentMismatch
    │   │   ├── DigestMismatch
    │   │   └── SizeMismatch
    │   └── BlobUnknown
    └── StorageError              the disk or whatever a driver writes to
        ├── StorageFull
        └── StorageDenied

URLs are kept and shown without a user, a password and a query, which may sign
it.  All of them can be pickled, with their attributes, their notes and, where
it can be pickled itself, their cause: they come back from worker processes.
"""

from __future__ import annotations

import dataclasses
import http
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from image_uploader_plugins.text import one_line, redacted

_LISTED = 10  # of many, in a message

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""RFC 9110, 15: worth another try; every other status above 399 is an answer."""


def _listed(texts: Sequence[str]) -> str:
    more = len(texts) - _LISTED
    return ", ".join(texts[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _shown(text: str, limit: int = 300) -> str:
    return one_line(redacted(text), limit) if text else text


class UploaderError(Exception):
    """Base of everything this package raises on purpose.

    ``retryable`` tells whether doing the same again can help.  ``lines`` say
    the same as the message, for people, where that would be a long line.
    """

    retryable = False
    lines: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Callable[..., UploaderError], tuple[Any, ...]]:
        return _restored, (type(self), self.args, vars(self), _pickled(self.__cause__))


def _pickled(cause: BaseException | None) -> bytes | None:
    """Return a cause as bytes; None for one that cannot be pickled, as one with a connection."""
    try:
        return pickle.dumps(cause)
    except Exception:  # whatever its class raises
        return None


def _restored(
    kind: type[UploaderError],
    arguments: tuple[Any, ...],
    attributes: Mapping[str, Any],
    cause: bytes | None,
) -> UploaderError:
    error = kind.__new__(kind, *arguments)
    vars(error).update(attributes)
    try:
        error.__cause__ = pickle.loads(cause) if cause else None  # noqa: S301 - from _pickled()
    except Exception:  # as of a class whose constructor wants more than it keeps
        error.__cause__ = None
    return error


class Interrupted(UploaderError):
    """Work that was given up because the whole run was told to stop."""


# -- the caller, or the configuration


class UsageError(UploaderError):
    """Something was asked for that cannot be done, or is not there."""


class ConfigurationError(UsageError):
    """An option, a file or a driver's name that cannot work."""


class InvalidReference(UsageError, ValueError):
    """A repository name, tag, digest or image reference outside its grammar."""


class ImageUnknown(UsageError):
    """No such repository, tag or manifest; ``image`` is what was asked for, "" if nobody told."""

    def __init__(self, reason: str, image: object = "") -> None:
        super().__init__(reason, image)
        self.reason = reason
        self.image = image

    def __str__(self) -> str:
        return self.reason


# -- a registry, the network or an archive


class SourceError(UploaderError):
    """Images cannot be had from where they are."""


class RegistryError(SourceError):
    """An answer of a registry, or with ``login`` of its token server, that is a refusal.

    ``url`` was asked for; ``status`` is HTTP's, ``code`` and ``message`` are
    what the registry says (OCI distribution-spec 1.1, "Error Codes"), in one
    line, "" where it says nothing.
    """

    def __init__(
        self, url: str, status: int, code: str = "", message: str = "", login: bool = False
    ) -> None:
        url, code, message = _shown(url), _shown(code), _shown(message)
        super().__init__(url, status, code, message, login)
        self.url = url
        self.status = status
        self.code = code
        self.message = message
        self.login = login

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        """Return whether doing the same again can help (RFC 9110, 15)."""
        return self.status in TRANSIENT_STATUSES

    def __str__(self) -> str:
        said = ": ".join(filter(None, (self.code, self.message))) or _phrase(self.status)
        doing = "cannot log in at " if self.login else ""
        hint = ""
        if self.status == http.HTTPStatus.UNAUTHORIZED:
            hint = " (credentials are missing or wrong, or there is no such image)"
        return f"{doing}{self.url}: {self.status} {said}{hint}"


class RegistryUnreachable(SourceError):
    """No answer from a registry at ``url``, for this ``reason``."""

    def __init__(self, url: str, reason: str, retryable: bool = True) -> None:
        # What to do stands at its end, with the names of folders.
        url, reason = _shown(url), _shown(reason, 600)
        super().__init__(url, reason, retryable)
        self.url = url
        self.reason = reason
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.url}: {self.reason}"


class RateLimited(SourceError):
    """A registry that asks for ``seconds`` of waiting, where a request waits for ``total``."""

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


class TransferTooSlow(SourceError):
    """A transfer that was given up: ``server`` gave too few bytes in too much time.

    Retryable, unless it took all the time there is: another connection may
    lead to a faster server.
    """

    def __init__(self, server: str, reason: str, retryable: bool = True) -> None:
        server, reason = _shown(server), _shown(reason)
        super().__init__(server, reason, retryable)
        self.server = server
        self.reason = reason
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.server} is too slow: {self.reason}"


class ArchiveInvalid(SourceError):
    """An archive at ``path`` that is damaged, or not of a kind that is known."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


# -- what was copied, or is stored


class ContentError(UploaderError):
    """Content that is not what it should be."""


class ManifestInvalid(ContentError, ValueError):
    """A manifest that breaks its specification, or its own description.

    ``path`` is that of its file, None where it came over the network.
    """

    def __init__(self, reason: str, path: object = None) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{self.path}: {self.reason}"


class ContentMismatch(ContentError):
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


class BlobUnknown(ContentError):
    """A manifest references blobs that its repository does not hold as described.

    ``sizes`` says of those that are there how many bytes they have, and how
    many the manifest says; the others are missing.
    """

    where = "not in the repository"

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
        parts = [f"blobs {self.where}: {_listed(missing)}"] if missing else []
        if wrong:
            parts.append(
                f"{_listed(wrong)}: damaged, which --check-present with the upload or "
                "'image-uploader verify --repair' mends, or the manifest is wrong"
            )
        return "; ".join(parts)


@dataclasses.dataclass(frozen=True)
class Doubt:
    """A tag or manifest, called ``name`` as clients know it, that cannot be read.

    ``reason`` begins with the path of its file; ``images`` are the tags that lead to it.
    """

    name: str
    reason: str
    images: tuple[str, ...] = ()

    def __str__(self) -> str:
        images = f" ({', '.join(self.images[:_LISTED])})" if self.images else ""
        return f"{self.reason}{images}"

    @property
    def advice(self) -> str:
        """Return a sentence for operators that says what to do."""
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
        first, *others = self.doubts
        more = f"; so may {len(others)} more that cannot be read" if others else ""
        super().__init__(
            f"{first}: it may need anything, so nothing else goes: {first.advice}{more}"
        )


# -- the storage


class StorageError(UploaderError):
    """The storage below a driver failed at ``path``, which may be a function that returns it.

    ``errno`` is the operating system's number for it, None where it gave none.
    """

    def __init__(self, path: object, reason: str = "", errno: int | None = None) -> None:
        super().__init__(path, reason, errno)
        self.reason = reason
        self.errno = errno

    @property
    def path(self) -> object:
        """Return the path; most errors are caught before anybody asks for it."""
        path = self.args[0]
        return path() if callable(path) else path

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.reason else str(self.path)


class StorageFull(StorageError):
    """No space or quota left."""


class StorageDenied(StorageError):
    """Not permitted, or a read-only file system."""


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"
