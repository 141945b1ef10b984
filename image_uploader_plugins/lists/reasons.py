# SPDX-License-Identifier: Apache-2.0
"""Images of a list that failed, and why: in their records, and in a few lines for all."""

from __future__ import annotations

import collections
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from image_uploader_plugins import errors
from image_uploader_plugins.runs.records import INTERRUPTED, ImageRecord, Status
from image_uploader_plugins.text import one_line, redacted

_NAMED = 5  # images that failed for one reason


class ImagesFailed(errors.UploaderError):
    """One or several images of a run that were not copied.

    ``failures`` are those of the single images, where there are several.
    """

    failures: tuple[Exception, ...] = ()

    @classmethod
    def of(cls, failures: Iterable[Exception], total: int) -> Self:
        """Return one error for all ``failures`` out of ``total`` images.

        Images for which a registry gave the same reason share a line.
        """
        found = tuple(_single(failures))
        lines = sorted(_grouped(found))
        head = f"{len(found)} of {total} images failed"
        error = cls(one_line(f"{head}: {'; '.join(lines)}"))
        error.failures, error.lines = found, (head, *lines)
        return error

    @classmethod
    def for_reasons(cls, reasons: Sequence[str]) -> Self:
        """Return one error for these reasons, each of which is a line."""
        error = cls(one_line("; ".join(reasons)))
        error.lines = tuple(reasons)
        return error


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
            raise ImagesFailed.of(self._found, total)


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


def _single(failures: Iterable[Exception]) -> Iterator[Exception]:
    """Yield failures of one image each, in the place of those of several."""
    for each in failures:
        inner = each if isinstance(each, ImagesFailed) else each.__cause__
        yield from (isinstance(inner, ImagesFailed) and inner.failures) or (each,)


def _grouped(failures: Iterable[Exception]) -> Iterator[str]:
    groups: dict[object, list[Exception]] = collections.defaultdict(list)
    for each in failures:
        groups[_what_registry_said(_origin(each)) or id(each)].append(each)
    for first, *others in groups.values():
        yield _line_for_all([first, *others]) if others else one_line(str(first))


def _origin(each: Exception) -> BaseException:
    is_ours = isinstance(each, errors.UploaderError) and not isinstance(each, ImagesFailed)
    return each if is_ours else each.__cause__ or each


def _what_registry_said(error: BaseException) -> object:
    """Return a registry and its reason, as a key; None for an error of another kind."""
    if isinstance(error, errors.RateLimited):
        return error.registry, errors.RateLimited
    if isinstance(error, errors.RegistryUnreachable):
        return _host(error), error.reason
    if isinstance(error, errors.RegistryError):
        return _host(error), error.status, error.code, error.login
    return None


def _host(error: errors.RegistryError | errors.RegistryUnreachable) -> str:
    return urllib.parse.urlsplit(error.url).netloc


def _line_for_all(failures: Sequence[Exception]) -> str:
    reason = one_line(redacted(str(_origin(failures[0]))))
    names = sorted(str(f).partition(f": {str(_origin(f))[:20]}")[0] for f in failures)
    shown = ", ".join(names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return one_line(f"{len(names)} images: {reason} ({shown}{more})")
