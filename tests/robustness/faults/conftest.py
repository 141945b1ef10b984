# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def strict_umask() -> Iterator[None]:
    """Modes come from nowhere else."""
    before = os.umask(0o077)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    os.umask(before)
