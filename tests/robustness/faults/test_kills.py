# SPDX-License-Identifier: Apache-2.0
"""A process that is killed, before and after every call that changes something.

What a kill leaves is what is on the disk at that moment, so one undisturbed
process shows it for each moment; processes that are really killed prove it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pytest

from tests.robustness.faults.course import course, tree
from tests.robustness.faults.flows import FLOWS, QUICK, Attempt
from tests.robustness.faults.snapshot import Snapshot, differences, take
from tests.support import faults, quick
from tests.support.faults import Primitive

# At each so many moments a process is really killed: to run up to there takes longest.
_REAL = 9


@pytest.mark.slow
@pytest.mark.parametrize("name", quick.alone(QUICK, FLOWS))
def test_killed_at_any_step(name: str) -> None:
    moments = _moments(name)
    assert len(moments) == len(course(name).effects) + 1
    faults.spread(functools.partial(_killed, name, moments), range(len(moments)))


def _moments(name: str) -> list[Snapshot]:
    """The tree before the first effect, and after each."""
    known = course(name)
    found: list[Snapshot] = []
    with tree(known.initial) as root:

        def hook(primitive: Primitive) -> Any:
            if primitive.effect and not found:
                found.append(take(root))
            try:
                return known.flow.wrap(primitive)
            finally:
                if primitive.effect:
                    found.append(take(root))

        Attempt(known.flow, root)(hook)
    return found


def _killed(name: str, moments: Sequence[Snapshot], n: int) -> list[str]:
    known, left = course(name), moments[n]
    after = known.effects[max(n - 1, 0)]
    problems = known.problems(left, after.done)
    if n % _REAL == 0:
        with tree(known.initial) as root:
            faults.killed(Attempt(known.flow, root), n, known.flow.wrap)
            really = take(root)
            if really.normal != left.normal:
                problems.append(f"it leaves {differences(really.normal, left.normal)}")
            problems += known.repeated(root)
    elif known.is_new(left):
        with tree(left) as root:
            problems += known.repeated(root)
    place = f"{name}: killed after effect {n} ({after.text if n else 'none'})"
    return [f"{place}: {problem}" for problem in problems]
