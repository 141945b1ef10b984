# SPDX-License-Identifier: Apache-2.0
"""Results as tables: of text for a terminal, of reStructuredText for the documentation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from benchmarks.results import METRICS, Case, Entry, Result, Row

Writer = Callable[[Result], str]
"""A function that writes a result."""

_RUNS = "runs"
_SPREAD = "from - to"


def columns(case: Case) -> list[str]:
    """Return the titles of a case's columns, the first of which is the contender."""
    shown = [METRICS[metric].title for metric in (case.metric, *case.more)]
    ratios = ["ratio", "to the limit"] if case.limit else ["ratio"]
    return ["", shown[0], _SPREAD, *ratios, *shown[1:], _RUNS]


def cells(case: Case, entry: Entry) -> list[str]:
    """Return the cells of an entry below the titles; its note stands where it has no figures."""
    metric = METRICS[case.metric]
    values = entry.values(case.metric)
    if not values:
        return [entry.name, entry.note or "nothing measured", *[""] * (len(columns(case)) - 2)]
    lowest, highest = metric.write(min(values)), metric.write(max(values))
    spread = f"{lowest} - {highest}" if len(values) > 1 else ""
    more = [_median(entry, name) for name in case.more]
    count = f"{len(values)}" + (", then failed" if entry.note else "")
    ratios = ["" if entry.name == case.base else _ratio(case.ratio(entry))]
    if case.limit:
        ratios.append("" if entry.name == case.limit else _ratio(case.to_limit(entry)))
    return [entry.name, _median(entry, case.metric), spread, *ratios, *more, count]


def text(result: Result) -> str:
    """Return everything as plain text."""
    lines = [*_heading(result), ""]
    for row in result.rows:
        lines += [row.title, "=" * len(row.title), ""]
        for case in row.cases:
            lines += [*_text_table(case), ""]
        lines += [*row.notes, ""]
    return "\n".join(lines)


def rst(result: Result, chart: str | None) -> str:
    """Return everything as reStructuredText, for a page to include; ``chart`` is a path in it."""
    lines = [".. python -m benchmarks --rst has written this file.", ""]
    for line in _heading(result):
        lines += [f"| {_literal(line)}"]
    lines += [""]
    if chart:
        lines += [f".. image:: {chart}", "   :alt: The medians of the tables below, as bars", ""]
    for row in result.rows:
        lines += [*_rst_row(row)]
    return "\n".join(lines)


def _heading(result: Result) -> list[str]:
    machine, settings = result.machine, result.settings
    cache = "empty before each run" if settings["drop caches"] else "as it is"
    size = "a tenth of the data (--quick), " if settings["quick"] else ""
    memory = machine["memory"] / 1e9
    return [
        f"{machine['processor']}, {machine['cores']} cores, {memory:.0f} GB; "
        f"{machine['system']}, Linux {machine['kernel']}; {machine['file system']}",
        f"Medians, {size}contenders in alternating order; page cache: {cache}; load of the "
        f"machine before: {machine['load before']:.1f}; {settings['seconds']:.0f} seconds in all",
        "; ".join(f"{name}: {version}" for name, version in machine["versions"].items()),
    ]


def _median(entry: Entry, metric: str) -> str:
    value = entry.median(metric)
    return "" if value is None else METRICS[metric].write(value)


def _ratio(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(case: Case) -> tuple[list[str], list[list[str]]]:
    return columns(case), [cells(case, entry) for entry in case.entries]


def _title(case: Case) -> str:
    limit = f"; limit: {case.limit}" if case.limit else ""
    return f"{case.title} (ratio to: {case.base}{limit})"


def _text_table(case: Case) -> Iterator[str]:
    titles, lines = _table(case)
    widths = _widths(titles, [line for line in lines if any(line[2:])])
    widths[0] = max(len(line[0]) for line in lines)
    yield _title(case)
    for line in (titles, *lines):
        padded = [
            word.rjust(width) if at else word.ljust(width)
            for at, (word, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(padded).rstrip()


def _widths(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(titles, *lines, strict=True)]


def _literal(words: str) -> str:
    """Return words without what means something in reStructuredText."""
    return re.sub(r"([\\*`|_])", r"\\\1", words)


def _rst_row(row: Row) -> Iterator[str]:
    title = _literal(row.title)
    yield from (title, "~" * len(title), "")
    for case in row.cases:
        yield from _rst_table(case)
    for note in row.notes:
        yield from (_literal(note), "")


def _rst_table(case: Case) -> Iterator[str]:
    titles, lines = _table(case)
    yield from (f".. list-table:: {_literal(_title(case))}", "   :header-rows: 1", "")
    for line in (titles, *lines):
        for at, word in enumerate(line):
            yield f"   {'  ' if at else '* '}- {_literal(word)}".rstrip()
    yield ""
