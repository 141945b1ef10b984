# SPDX-License-Identifier: Apache-2.0
"""The flows as they are: what the other tests compare with is right."""

from __future__ import annotations

import pytest

from tests.robustness.faults.course import course, tree
from tests.robustness.faults.flows import FLOWS
from tests.support import trees


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_the_reader_finds_nothing_wrong(name: str) -> None:
    flow = course(name).flow
    assert course(name).problems(course(name).initial, 0) == []
    assert course(name).problems(course(name).finals[0], len(flow.steps)) == []
    if not flow.legacy:
        with tree(course(name).finals[0]) as root:
            assert trees.problems(root) == []


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_can_be_repeated(name: str) -> None:
    with tree(course(name).finals[0]) as root:
        assert list(course(name).repeated(root)) == []
