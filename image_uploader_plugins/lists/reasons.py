# SPDX-License-Identifier: Apache-2.0
"""Images of a list that failed, and why: in their records, and in one line for all."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from image_uploader_plugins import errors
from image_uploader_plugins.runs.records import INTERRUPTED, ImageRecord, Status
from image_uploader_plugins.text import one_line, redacted


class ImagesFailed(errors.UploaderError):
    """One or several images of a run that were not copied."""


class Failures:
    """What failed in a run; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: list[ImagesFailed] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def of_image(self, record: ImageRecord, subject: str, error: Exception) -> None:
        """Note that an image failed, in its record, too."""
        found = failure(subject, error)
        note(record, str(found), error, retryable=found.retryable)
        self._add(found)

    def of_run(self, subject: str, error: Exception) -> None:
        """Note what failed besides images."""
        self._add(failure(subject, error))

    def _add(self, found: ImagesFailed) -> None:
        with self._lock:
            self._found.append(found)

    def check(self, total: int) -> None:
        """Raise ImagesFailed for all that was noted, of so many images in ``total``."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            raise ImagesFailed(together(map(str, self._found), total))


def failure(subject: str, error: Exception) -> ImagesFailed:
    """Return what an error means for the run, with that as its cause."""
    if isinstance(error, errors.UploaderError):
        found = ImagesFailed(about(subject, error))
        found.retryable = error.retryable
    else:
        found = ImagesFailed(str(error) or type(error).__name__)
    found.__cause__ = error
    return found


def about(subject: str, error: BaseException) -> str:
    """Return what an error says, with its subject and notes, in one line without secrets."""
    return one_line(redacted(": ".join([subject, *getattr(error, "__notes__", ()), str(error)])))


def note(record: ImageRecord, why: str, origin: BaseException, *, retryable: bool) -> None:
    """Note in a record that an image failed, or was interrupted, which ``origin`` tells."""
    if isinstance(origin, errors.Interrupted):
        record.become(Status.FAILED, INTERRUPTED, retryable=True)
    else:
        record.become(Status.FAILED, why, retryable=retryable)


def together(reasons: Iterable[str], total: int) -> str:
    """Return one line for the ``reasons`` of those out of ``total`` images that failed."""
    found = sorted(reasons)
    return f"{len(found)} of {total} images failed: {'; '.join(found)}"
