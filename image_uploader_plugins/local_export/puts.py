# SPDX-License-Identifier: Apache-2.0
"""The puts that are under way in this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from image_uploader_plugins.storage import fork

AT_MOST = 0.05
"""Seconds that are waited for others."""


class Puts:
    """The puts under way, for whoever does something for all of them afterwards."""

    def __init__(self) -> None:
        self._renew()
        fork.in_child(self, Puts._renew)

    def _renew(self) -> None:
        self._changed = threading.Condition()
        self._under_way: set[object] = set()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Count a put as under way during a block."""
        put = object()
        with self._changed:
            self._under_way.add(put)
        try:
            yield
        finally:
            with self._changed:
                self._under_way.remove(put)
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait a short time for the puts that are under way now, not for later ones."""
        with self._changed:
            others = set(self._under_way)
            self._changed.wait_for(lambda: others.isdisjoint(self._under_way), AT_MOST)
