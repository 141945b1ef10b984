# SPDX-License-Identifier: Apache-2.0
"""Results as a chart: an SVG with bars, which reads well on light and on dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from benchmarks.results import METRICS, Case, Entry, Result

_WIDTH = 900
_LEFT = 330  # where bars begin
_RIGHT = 150  # beside the longest bar, for its value
_BAR = 16
_STEP = 22
_GAP = 14

_STYLE = """\
text { font: 13px sans-serif; fill: #1b2733 }
.row { font: bold 16px sans-serif }
.case { font: bold 13px sans-serif }
.note { fill: #57606a }
.name { text-anchor: end }
.bar { fill: #9aa5b0 }
.ours { fill: #1f7fb5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e9ee }
  .note { fill: #a3adb6 }
  .bar { fill: #6d7781 }
  .ours { fill: #4ba3d8 }
}"""


def svg(result: Result) -> str:
    """Return the chart: bars for each case that is charted, the longest of each equally wide.

    An entry without figures has its note in the place of a bar.
    """
    body, height = _body(result)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-labelledby="title">'
    )
    lines = [
        "<!-- SPDX-License-Identifier: Apache-2.0 -->",
        head,
        '<title id="title">Medians of the benchmarks</title>',
        f"<style>{_STYLE}</style>",
        *body,
        "</svg>",
    ]
    return "\n".join([*lines, ""])


def _body(result: Result) -> tuple[list[str], int]:
    lines: list[str] = []
    y = 0
    for row in result.rows:
        cases = [case for case in row.cases if case.is_charted]
        if not cases:
            continue
        y += _STEP + _GAP
        lines.append(_text(0, y, "row", row.title))
        for case in cases:
            y += _STEP
            lines.append(_text(0, y, "case", f"{case.title}: {METRICS[case.metric].title}"))
            y += _GAP // 2
            for line in _bars(case, y):
                lines.append(line)
            y += _STEP * len(case.entries) + _GAP // 2
    return lines, y + _GAP


def _bars(case: Case, y: int) -> Iterator[str]:
    longest = max((entry.median(case.metric) or 0 for entry in case.entries), default=0)
    for entry in case.entries:
        yield from _bar(case, entry, y, longest)
        y += _STEP


def _bar(case: Case, entry: Entry, y: int, longest: float) -> Iterator[str]:
    middle = y + _BAR - 3
    yield _text(_LEFT - 8, middle, "name", entry.name)
    value = entry.median(case.metric)
    if value is None:
        yield _text(_LEFT, middle, "note", (entry.note or "nothing measured")[:60])
        return
    width = (_WIDTH - _LEFT - _RIGHT) * value / longest if longest else 0
    kind = "bar ours" if entry.is_ours else "bar"
    yield f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}"/>'
    yield _text(_LEFT + width + 6, middle, "value", _value(case, entry, value))


def _value(case: Case, entry: Entry, value: float) -> str:
    written = METRICS[case.metric].write(value)
    ratio = case.ratio(entry)
    if ratio is None or entry.name == case.base:
        return written
    return f"{written} ({ratio:.2g} x)" if ratio < 100 else f"{written} ({ratio:.0f} x)"


def _text(x: float, y: float, kind: str, words: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'
