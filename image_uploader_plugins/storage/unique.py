# SPDX-License-Identifier: Apache-2.0
"""Names that no other file has, made without asking the kernel for each."""

from __future__ import annotations

import itertools
import secrets

from image_uploader_plugins.storage import fork

_HALF = 16  # hexadecimal digits


class _Names:
    """The names of this process: half of each is random and the same for all, half a count."""

    def __init__(self) -> None:
        self._renew()
        fork.in_child(self, _Names._renew)

    def _renew(self) -> None:
        self._process = secrets.token_hex(_HALF // 2)
        self._numbers = itertools.count()

    def __call__(self) -> str:
        """Return 32 hexadecimal digits that no process has returned before."""
        return f"{self._process}{next(self._numbers):0{_HALF}x}"


unique = _Names()
