# SPDX-License-Identifier: Apache-2.0
"""The results of a run: rows of cases, each with the figures of its contenders."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

Figures = dict[str, float]
"""What one run has measured, by the keys of METRICS."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """A kind of figure: its title with the unit, and how its values are written."""

    title: str
    write: Callable[[float], str]
    higher_is_better: bool = False


def _significant(value: float) -> str:
    """Return a value with three significant digits, and never in scientific notation."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _millions(value: float) -> str:
    return f"{value / 1e6:,.0f}"


def _per_image(what: str) -> Metric:
    return Metric(f"{what} an image", _significant)


METRICS: dict[str, Metric] = {
    "seconds": Metric("seconds", _significant),
    "cpu": Metric("CPU seconds", _significant),
    "memory": Metric("memory, MB", _millions),
    "milliseconds": Metric("milliseconds", _significant),
    "rate": Metric("requests a second", _significant, higher_is_better=True),
    "throughput": Metric("MB a second", _significant, higher_is_better=True),
    "p50": Metric("median, ms", _significant),
    "p99": Metric("99 %, ms", _significant),
    "fetched": Metric("bytes fetched, by the size", _significant),
    "asked": Metric("requests", _significant),
    "opens": _per_image("opens"),
    "flushes": _per_image("flushes"),
    "locks": _per_image("lock calls"),
    "unlinks": _per_image("unlinks"),
    "renames": _per_image("renames and links"),
    "folders": _per_image("folders made"),
    "calls": _per_image("system calls"),
    "requests": _per_image("requests"),
}
"""What is measured, by its key in the figures of a run."""


@dataclasses.dataclass
class Entry:
    """A contender in a case: the figures of each of its runs; a note says why there are none.

    ``is_ours`` tells whether it is this project's, or a server with its tree.
    """

    name: str
    runs: list[Figures] = dataclasses.field(default_factory=list)
    note: str = ""
    is_ours: bool = False

    def values(self, metric: str) -> list[float]:
        """Return the values of a metric, one for each run that has it."""
        return [run[metric] for run in self.runs if metric in run]

    def median(self, metric: str) -> float | None:
        """Return the median of a metric, None without a run that has it."""
        values = self.values(metric)
        return statistics.median(values) if values else None


@dataclasses.dataclass
class Case:
    """The same work, done by several contenders.

    ``metric`` is what they are compared by, ``more`` what else is shown; ``base``
    is the name of the contender that the others are compared with, and ``limit`` of
    one that does nothing but what cannot be avoided. ``is_charted`` tells whether
    the chart has the case.
    """

    title: str
    base: str
    metric: str = "seconds"
    more: tuple[str, ...] = ("cpu", "memory")
    limit: str = ""
    is_charted: bool = True
    entries: list[Entry] = dataclasses.field(default_factory=list)

    def ratio(self, entry: Entry) -> float | None:
        """Return the median of an entry divided by that of the base, None if one is missing."""
        return self._ratio(entry, self.base)

    def to_limit(self, entry: Entry) -> float | None:
        """Return the median of an entry divided by that of the limit, None if one is missing."""
        return self._ratio(entry, self.limit)

    def _ratio(self, entry: Entry, name: str) -> float | None:
        mine = entry.median(self.metric)
        others = [one.median(self.metric) for one in self.entries if one.name == name]
        if mine is None or not others or not others[0]:
            return None
        return mine / others[0]


@dataclasses.dataclass
class Row:
    """Cases that belong together; ``notes`` are sentences about all of them."""

    key: str
    title: str
    cases: list[Case] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Result:
    """A whole run: the machine, the settings, and the rows in their order."""

    machine: dict[str, Any]
    settings: dict[str, Any]
    rows: list[Row] = dataclasses.field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it, with medians and ratios beside the raw figures."""
        fields = dataclasses.asdict(self)
        for row, row_fields in zip(self.rows, fields["rows"], strict=True):
            for case, case_fields in zip(row.cases, row_fields["cases"], strict=True):
                for entry, entry_fields in zip(case.entries, case_fields["entries"], strict=True):
                    entry_fields["median"] = entry.median(case.metric)
                    entry_fields["ratio"] = case.ratio(entry)
                    entry_fields["ratio to the limit"] = case.to_limit(entry)
        return fields
