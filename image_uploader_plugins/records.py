"""What became of an image and of each blob of it, as values that can be written down."""

from __future__ import annotations

import dataclasses
import enum
from typing import Self

import requests

from image_uploader_plugins import errors
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.source import is_transient


class Outcome(enum.StrEnum):
    """What became of a blob, or of a manifest that an index lists."""

    FETCHED = "fetched"  # came over the network
    MOUNTED = "mounted"  # the target held it already, maybe elsewhere
    WRITTEN = "written"  # from this machine's local storage
    SKIPPED = "skipped"  # not copied, and the reason says why
    FAILED = "failed"


class Status(enum.StrEnum):
    """What became of an image."""

    COPIED = "copied"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # begun, and stopped by a signal
    NOT_ATTEMPTED = "not_attempted"
    UNKNOWN = "unknown"  # only its uploader knows, and does not say


@dataclasses.dataclass(frozen=True)
class BlobRecord:
    """One blob; ``size`` in bytes as stored, None where nobody said."""

    digest: str
    media_type: str
    size: int | None
    outcome: Outcome
    reason: str | None = None

    @classmethod
    def of(
        cls, blob: Descriptor, outcome: Outcome, reason: str | None = None, size: int | None = None
    ) -> Self:
        return cls(str(blob.digest), blob.media_type, size or blob.size, outcome, reason)


@dataclasses.dataclass(frozen=True)
class Failure:
    """An error by its class and message, in one line; ``retryable`` if doing it again can help."""

    kind: str
    message: str
    retryable: bool

    @classmethod
    def of(cls, error: BaseException) -> Self:
        origin = error
        # tripleo-common knows but few exceptions; ours is behind them.
        if not isinstance(error, errors.UploaderError) and isinstance(
            error.__cause__, errors.UploaderError | requests.RequestException
        ):
            origin = error.__cause__
        message = " ".join(str(error).split())
        return cls(type(origin).__name__, message, is_transient(origin))


@dataclasses.dataclass
class ImageRecord:
    """One image; ``image`` is how it was asked for, ``seconds`` what it took.

    ``repository``, ``tag``, ``digest`` and ``media_type`` are the target's,
    and None where they are not known.
    """

    image: str
    uploader: str
    status: Status = Status.NOT_ATTEMPTED
    repository: str | None = None
    tag: str | None = None
    digest: str | None = None
    media_type: str | None = None
    seconds: float = 0.0
    blobs: list[BlobRecord] = dataclasses.field(default_factory=list)
    failure: Failure | None = None

    def fail(self, error: BaseException) -> None:
        """It failed, or was interrupted, for this reason."""
        self.failure = Failure.of(error)
        interrupted = self.failure.kind == errors.Interrupted.__name__
        self.status = Status.INTERRUPTED if interrupted else Status.FAILED
