# SPDX-License-Identifier: Apache-2.0
"""Errors, translated into those of tripleo-common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import requests
from tripleo_common.image import exception

from image_uploader_plugins import errors
from image_uploader_plugins.lists import reasons
from image_uploader_plugins.runs.records import ImageRecord
from image_uploader_plugins.text import one_line, redacted


def failed(record: ImageRecord, error: BaseException) -> None:
    """Note in a record that an image failed, or was interrupted, for this reason."""
    # tripleo-common knows but few exceptions; what really happened is behind them.
    origin = error if isinstance(error, errors.UploaderError) else error.__cause__ or error
    why = str(error) or type(error).__name__
    reasons.note(record, why, origin, retryable=is_transient(origin))


def combined(failures: list[Exception], total: int) -> Exception:
    """Return one error for all ``failures`` out of ``total`` images."""
    if len(failures) == 1:
        return failures[0]
    several = reasons.ImagesFailed.of(failures, total)
    error: Exception = exception.ImageUploaderException(str(several))
    error.__cause__ = several
    return error


def is_transient(error: BaseException) -> bool:
    """Return whether doing the same again can help."""
    if isinstance(error, errors.UploaderError):
        return error.retryable
    # Those that are ValueErrors, too, are about what is no URL.
    if not isinstance(error, requests.RequestException) or isinstance(error, ValueError):
        return False
    response = error.response
    return response is None or response.status_code in errors.TRANSIENT_STATUSES | {401}


@contextlib.contextmanager
def tripleo_errors(subject: str) -> Iterator[None]:
    """Raise errors as tripleo-common expects them, with ``subject`` named.

    What may work the next time is a requests HTTPError, a missing image an
    ImageNotFoundException, everything else an ImageUploaderException.
    """
    try:
        yield
    except (errors.UploaderError, requests.RequestException) as e:
        about = reasons.about(subject, e)
        if isinstance(e, errors.ImageUnknown):
            raise exception.ImageNotFoundException(about) from e
        if is_transient(e):
            raise requests.exceptions.HTTPError(about) from e
        raise exception.ImageUploaderException(about) from e
    except exception.ImageUploaderException as e:
        raise type(e)(one_line(redacted(f"{subject}: {e}"))) from e
