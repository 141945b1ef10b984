# SPDX-License-Identifier: Apache-2.0
"""A process that is killed, before and after every call that changes something."""

from __future__ import annotations

import functools

import pytest

from tests.robustness.faults.course import course, tree
from tests.robustness.faults.flows import FLOWS, QUICK, Attempt
from tests.robustness.faults.snapshot import take
from tests.support import faults, quick


@pytest.mark.slow
@pytest.mark.parametrize("name", quick.alone(QUICK, FLOWS))
def test_killed_at_any_step(name: str) -> None:
    effects = course(name).effects
    faults.spread(functools.partial(_killed, name), range(len(effects) + 1))


def _killed(name: str, n: int) -> list[str]:
    known = course(name)
    with tree(known.initial) as root:
        faults.killed(Attempt(known.flow, root), n, known.flow.wrap)
        after = known.effects[max(n - 1, 0)]
        left = take(root)
        problems = known.problems(left, after.done)
        problems += known.repeated(root) if known.is_new(left) else []
    place = f"{name}: killed after effect {n} ({after.text if n else 'none'})"
    return [f"{place}: {problem}" for problem in problems]
