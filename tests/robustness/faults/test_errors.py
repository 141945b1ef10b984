# SPDX-License-Identifier: Apache-2.0
"""Every call of a storage fails: once because the disk is broken, once because it is full."""

from __future__ import annotations

import errno
import functools
import gc
import os

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.local_export import layout
from tests.robustness.faults.course import calls, course, tree
from tests.robustness.faults.flows import FLOWS, QUICK, Attempt
from tests.robustness.faults.snapshot import Snapshot, take
from tests.support import faults, quick
from tests.support.faults import Failing, Primitive

# A driver of its own does each step, lest all steps before are done for each call.
STEPS: list[tuple[str, int | None]] = [
    *((name, step) for name, flow in FLOWS.items() for step in range(len(flow.steps))),
    ("moved tag", None),  # with the leases of the steps before
]

# States of a tree that this process has looked at.
_seen: set[object] = set()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step"), quick.alone({(name, 0) for name in QUICK}, STEPS))
def test_a_broken_disk_at_any_call(name: str, step: int | None) -> None:
    faults.spread(functools.partial(_failed, name, step, errno.EIO), range(len(calls(name, step))))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step"), quick.alone({(name, 0) for name in QUICK}, STEPS))
def test_a_full_disk_at_any_call(name: str, step: int | None) -> None:
    """Reading takes no space."""
    changes = [n for n, call in enumerate(calls(name, step)) if call.changes]
    faults.spread(functools.partial(_failed, name, step, errno.ENOSPC), changes)


def _failed(name: str, step: int | None, number: int, n: int) -> list[str]:
    known = course(name)
    failing = Failing(n, number, known.flow.wrap)
    with tree(known.stages[step or 0]) as root:
        attempt = Attempt(known.flow, root, None if step is None else [step])
        problems = []
        try:
            attempt(failing)
        except errors.StorageError as e:
            problems += _ill_named(e, number)
        except BaseException as e:
            problems.append(f"raises {e!r}")
        if known.flow.founding:
            gc.collect()  # the driver that could not be made leaves its folder now
        after = take(root)
        problems += _left_over(after, failing.failed)
        # Reading again and again between two changes leads to the same.
        if (name, attempt.done, after.normal) not in _seen:
            _seen.add((name, attempt.done, after.normal))
            problems += known.problems(after, attempt.done)
            problems += known.repeated(root) if known.is_new(after) else []
    place = f"{name}, step {step}: {errno.errorcode[number]} at call {n} ({failing.failed})"
    return [f"{place}: {problem}" for problem in problems]


def _ill_named(error: errors.StorageError, number: int) -> list[str]:
    full = number == errno.ENOSPC
    named = isinstance(error, errors.StorageFull) == full and os.strerror(number) in str(error)
    return [] if named else [f"raises {error!r}"]


def _left_over(after: Snapshot, failed: Primitive | None) -> list[str]:
    """Temporary files that nothing but their removal's own failure could have left."""
    found = [path for path, _ in after.below(".local-export/staging") if "/" in path]
    removing = failed is not None and (failed.function is os.unlink or not failed.changes)
    if failed and failed.path.is_relative_to(layout.PARTIAL):
        # What cannot be written to is not worth the space that it takes.
        found += [path for path, _ in after.below(str(layout.PARTIAL))]
    return [] if removing else [f"leaves {path}" for path in found]
