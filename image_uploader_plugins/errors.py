"""The exception tree: one class per cause, its data in attributes.

``retryable`` tells a host whether doing the same again can help.  Every
constructor takes just the data it keeps, so the exceptions survive pickling
on their way back from a worker process.
"""

from __future__ import annotations

from collections.abc import Iterable

_LISTED = 10  # of many, in a message


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
    """A manifest references blobs that its repository does not hold."""

    def __init__(self, digests: Iterable[object]) -> None:
        self.digests = tuple(digests)
        super().__init__(self.digests)

    def __str__(self) -> str:
        listed = ", ".join(map(str, self.digests[:_LISTED]))
        more = len(self.digests) - _LISTED
        return f"blobs not in the repository: {listed}" + (f" and {more} more" if more > 0 else "")


class ImageUnknown(UploaderError):
    """No such repository, tag or manifest."""


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
