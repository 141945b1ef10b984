# SPDX-License-Identifier: Apache-2.0
"""A short round of what ``python -m tests.robustness.stress`` does for as long as one likes."""

from __future__ import annotations

import pytest

from tests.robustness.stress import rounds
from tests.robustness.stress.writers import Shape
from tests.support import web

SHAPE = Shape(seed=1, workers=2, threads=2, length=30, tags=20)


@pytest.mark.slow
def test_readers_see_nothing_bad_and_the_tree_is_as_in_order() -> None:
    with web.open_folder() as folder:
        report = rounds.play(folder, SHAPE, 2, ["nginx", "httpd"])
    assert report.bad == []
    assert set(report.operations) == {"upload", "mount", "put", "delete"}
    assert sum(report.operations.values()) >= SHAPE.workers * SHAPE.threads * SHAPE.length / 2
    assert set(report.reads) == {"nginx", "httpd"}
    assert min(report.reads.values()) > 1000


@pytest.mark.slow
def test_a_plan_is_made_of_its_seed_alone() -> None:
    assert SHAPE.plan() == SHAPE.plan()
    assert list(SHAPE.plan().steps()) != list(Shape(2, 2, 2, 30, 20).plan().steps())
