# SPDX-License-Identifier: Apache-2.0
"""Which of many parameters are for the quick run, too."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest


def alone(quick: Container[Any], values: Iterable[Any]) -> list[Any]:
    """``values`` for parametrize or a fixture: those that are not in ``quick`` are slow."""
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=() if value in quick else pytest.mark.slow,
        )
        for value in values
    ]
