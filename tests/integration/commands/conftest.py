# SPDX-License-Identifier: Apache-2.0
"""Commands on a tree with one of everything, in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.commands import content
from tests.support import trees


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with all of the content, not to be changed."""
    root = tmp_path_factory.mktemp("full") / "image-serve"
    content.fill(root)
    return root


@pytest.fixture
def filled(root: Path, full: Path) -> Path:
    """A copy of that tree for one test."""
    trees.copy(full, root)
    return root
