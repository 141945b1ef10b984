"""What a server wants from whoever asks: the field WWW-Authenticate.

Source: RFC 9110, 11.2 to 11.6.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|\Z))")
_PARAMETER = re.compile(
    rf"({_TOKEN.pattern})[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|({_TOKEN.pattern}))", re.DOTALL
)
_SPACE = re.compile(r"[ \t]*")
_COMMAS = re.compile(r"[ \t,]*")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
# Longer fields are those of servers that are up to something.
_LIMIT = 16 * 1024


@dataclasses.dataclass(frozen=True)
class Challenge:
    """One way to authenticate: ``scheme`` and the names of ``parameters`` in lower case."""

    scheme: str
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse(fields: Iterable[str]) -> list[Challenge]:
    """Return the challenges in all fields of an answer, in their order.

    A field may hold several.  What follows grammar that is broken is passed
    over; of a parameter that stands twice the first counts.
    """
    return [challenge for field in fields for challenge in _field(field[:_LIMIT])]


def _field(text: str) -> Iterator[Challenge]:
    position = _skip(_COMMAS, text, 0)
    while scheme := _TOKEN.match(text, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        if position < len(text) and text[position] in " \t":
            position = _skip(_SPACE, text, position)
            position = _parameters(text, position, parameters)
        yield Challenge(scheme[0].lower(), parameters)
        if position < len(text) and text[_skip(_SPACE, text, position)] != ",":
            return
        position = _skip(_COMMAS, text, position)


def _parameters(text: str, position: int, found: dict[str, str]) -> int:
    """Read what belongs to one scheme into ``found``; return where it ends."""
    end = position
    while parameter := _PARAMETER.match(text, position):
        name, quoted, token = parameter.groups()
        value = token if quoted is None else _ESCAPED.sub(r"\1", quoted)
        found.setdefault(name.lower(), value)
        end = parameter.end()
        # What follows a comma is another parameter, or another scheme.
        position = _skip(_COMMAS, text, end)
        if position == end or "," not in text[end:position]:
            return end
    if not found and (token68 := _TOKEN68.match(text, position)):
        return token68.end()
    return end


def _skip(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position
