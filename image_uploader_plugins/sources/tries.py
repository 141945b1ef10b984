# SPDX-License-Identifier: Apache-2.0
"""Retries of errors that may pass; no other module retries."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from image_uploader_plugins import errors
from image_uploader_plugins.sources.pauses import wait_until
from image_uploader_plugins.text import one_line

LOG = logging.getLogger(__name__)

ATTEMPTS = 5
"""Times that something is done until its error is raised."""

_LONGEST_BACKOFF = 10.0  # seconds


class Tries:
    """The failures of one piece of work since it last made progress."""

    def __init__(self, check: Callable[[], None], attempts: int = ATTEMPTS) -> None:
        self._check = check
        self._attempts = attempts
        self._failures = 0

    def progressed(self) -> None:
        """Begin to count anew."""
        self._failures = 0

    def failed(self, error: errors.UploaderError) -> None:
        """Wait before another try; raise ``error`` if no try can help, or no more are left."""
        self._failures += 1
        if not error.retryable or self._failures >= self._attempts:
            raise error
        longest = min(_LONGEST_BACKOFF, 0.5 * 2**self._failures)
        seconds = random.uniform(longest / 2, longest)  # noqa: S311 - no secret
        LOG.info("trying again in %.1f seconds: %s", seconds, one_line(str(error)))
        self.pause(seconds)

    def pause(self, seconds: float) -> None:
        """Wait, and look meanwhile whether the wait is to end."""
        wait_until(time.monotonic() + seconds, self._check)
