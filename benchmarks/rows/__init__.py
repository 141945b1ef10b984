# SPDX-License-Identifier: Apache-2.0
"""The rows, by the words of ``--only``, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.results import Row
from benchmarks.rows import (
    changes,
    deployment,
    large_layers,
    resumption,
    serving_rate,
    start_up,
    system_calls,
    whole_trees,
)
from benchmarks.workshop import Workshop

ROWS: dict[str, Callable[[Workshop], Row]] = {
    "deployment": deployment.measured,
    "layers": large_layers.measured,
    "resume": resumption.measured,
    "calls": system_calls.measured,
    "start": start_up.measured,
    "serve": serving_rate.measured,
    # The trees of the first one grow, and the other one needs the largest.
    "change": changes.measured,
    "verify": whole_trees.measured,
}
"""Functions that measure a row."""
