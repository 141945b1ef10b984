# SPDX-License-Identifier: Apache-2.0
"""Why images of a list failed: in their records, and in one line for all."""

from __future__ import annotations

from collections.abc import Iterable

from image_uploader_plugins import errors
from image_uploader_plugins.runs.records import INTERRUPTED, ImageRecord, Status
from image_uploader_plugins.text import one_line, redacted


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
