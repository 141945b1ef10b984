# SPDX-License-Identifier: Apache-2.0
"""What brings content in this process just now: mounts, uploads and puts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from image_uploader_plugins.storage import fork

AT_MOST = 0.25
"""Seconds that are waited for others."""


class UnderWay:
    """The mounts, uploads and puts that are under way, which are parts of images.

    What costs the same for one image and for many is best done when they have
    ended.
    """

    def __init__(self) -> None:
        self._renew()
        fork.in_child(self, UnderWay._renew)

    def _renew(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Count a block as under way."""
        with self._changed:
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                if not self._count:
                    self._changed.notify_all()

    def wait(self) -> None:
        """Wait until nothing is under way, or a short time."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count, AT_MOST)
