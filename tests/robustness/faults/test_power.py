# SPDX-License-Identifier: Apache-2.0
"""The power fails at any moment, and any of what is not durable yet gets lost."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import pytest

from image_uploader_plugins.local_export import layout
from tests.robustness.faults.course import course, tree
from tests.robustness.faults.flows import FLOWS, QUICK, Attempt
from tests.robustness.faults.power import Disk
from tests.robustness.faults.snapshot import Snapshot
from tests.support import faults, quick
from tests.support.faults import SYNCS, Dying, Killed, Primitive

Loss = tuple[str, int, Snapshot]


@pytest.mark.slow
@pytest.mark.parametrize("name", quick.alone(QUICK, FLOWS))
def test_a_power_loss_at_any_step(name: str) -> None:
    faults.spread(functools.partial(_lost, name), _losses(name))


def _losses(name: str) -> list[Loss]:
    """Every tree that may be left, each once: where, after how many steps, and the tree."""
    known = course(name)
    found: dict[object, Loss] = {}
    with tree(known.initial) as root:
        attempt = Attempt(known.flow, root)
        disk = Disk(root.parent, known.flow.wrap)
        count = 0

        def note(place: str, *, thoroughly: bool) -> None:
            for loss, left in disk.losses(thoroughly=thoroughly):
                text = f"{name}: power lost {place}, {loss}"
                found.setdefault((attempt.done, left.normal), (text, attempt.done, left))

        def hook(primitive: Primitive) -> Any:
            nonlocal count
            if primitive.function in SYNCS and len(disk.pending) > 2:
                note(f"before call {count} ({primitive})", thoroughly=True)
            result = disk(primitive)
            if primitive.changes:
                note(f"after call {count} ({primitive})", thoroughly=False)
            count += 1
            return result

        attempt(hook)
        note("in the end", thoroughly=True)
    return list(found.values())


def _lost(name: str, loss: Loss) -> list[str]:
    text, done, left = loss
    problems = course(name).problems(left, done, lost=True)
    if course(name).is_new(left):
        with tree(left) as root:
            problems += course(name).repeated(root)
    return [f"{text}: {problem}" for problem in problems]


@pytest.mark.slow
@pytest.mark.parametrize("name", quick.alone(QUICK, FLOWS))
def test_a_kill_and_then_a_power_loss(name: str) -> None:
    """What the second attempt finds in its place may not be durable."""
    effects = enumerate(course(name).effects, 1)
    # With what is staged the second attempt has nothing to do.
    names = [n for n, call in effects if str(layout.STAGING) not in call.text]
    faults.spread(functools.partial(_killed_and_lost, name), names)


def _killed_and_lost(name: str, n: int) -> list[str]:
    known = course(name)
    found: list[Loss] = []
    with tree(known.initial) as root:
        disk = Disk(root.parent, known.flow.wrap)
        killed = Attempt(known.flow, root)
        with contextlib.suppress(Killed):
            killed(Dying(n, disk))
        attempt = Attempt(known.flow, root)

        done = 0

        def note(place: str) -> None:
            loss, left = next(disk.losses(thoroughly=False))
            found.append((f"{place}, {loss}", attempt.done, left))

        def hook(primitive: Primitive) -> Any:
            nonlocal done
            if attempt.done > done:
                done = attempt.done
                note(f"after {done} steps")
            result = disk(primitive)
            if primitive.function in SYNCS and primitive.path.suffix == layout.TYPE_MAP:
                note(f"after {primitive}")
            return result

        attempt(hook, again=True)
        for loss, left in disk.losses(thoroughly=False):
            found.append((f"in the end, {loss}", attempt.done, left))
    return [
        f"{name}: killed after effect {n}, and power lost {text}: {problem}"
        for text, done, left in found
        for problem in known.problems(left, done, lost=True, reached=killed.done)
    ]
