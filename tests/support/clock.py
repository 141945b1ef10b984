# SPDX-License-Identifier: Apache-2.0
"""A clock for tests of waiting, and registries that keep their pauses by it."""

from __future__ import annotations

import functools
import threading

import pytest

from image_uploader_plugins.sources import registries
from image_uploader_plugins.sources.pauses import Pauses


class Clock:
    """A clock that only sleeping moves, whoever sleeps; ``now`` in seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds

    def rule(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have the pauses of all registries go by this clock."""
        made = functools.partial(Pauses, clock=self, sleep=self.sleep)
        monkeypatch.setattr(registries, "Pauses", made)
