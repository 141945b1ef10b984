# SPDX-License-Identifier: Apache-2.0
"""Challenges: the authentication that a server demands, in the field WWW-Authenticate.

Source: RFC 9110, 11.2 to 11.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|\Z))")
_PARAMETER = re.compile(
    rf"({_TOKEN.pattern})[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|({_TOKEN.pattern}))", re.DOTALL
)
_SCHEME = re.compile(rf"({_TOKEN.pattern})(?:[ \t]+|(?=,)|\Z)")
_COMMAS = re.compile(r"[ \t,]*")
_END = re.compile(r"[ \t]*(?:,[ \t,]*|\Z)")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
# Longer fields are those of servers that are up to something.
FIELD_LIMIT = 16 * 1024  # characters


class Challenge(NamedTuple):
    """One way to authenticate: ``scheme`` and the names of ``parameters`` in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse(fields: Iterable[str]) -> list[Challenge]:
    """Return the challenges in all fields of an answer, in their order.

    A field may hold several.  What follows grammar that is broken is passed
    over; of a parameter that stands twice the first counts.
    """
    return [challenge for field in fields for challenge in _field(field[:FIELD_LIMIT])]


def _field(text: str) -> Iterator[Challenge]:
    """Read a list, each of whose elements begins a challenge or belongs to the one before."""
    current: Challenge | None = None
    match = _COMMAS.match(text)
    while match and match.end() < len(text):
        position = match.end()
        if current and (parameter := _PARAMETER.match(text, position)):
            _add(current, parameter)
            match = _END.match(text, parameter.end())
            continue
        if current:
            yield current
        scheme = _SCHEME.match(text, position)
        current = Challenge(scheme[1].lower(), {}) if scheme else None
        match = _behind(text, scheme)
    if current:
        yield current


def _add(challenge: Challenge, parameter: re.Match[str]) -> None:
    name, quoted, token = parameter.groups()
    value = token if quoted is None else _ESCAPED.sub(r"\1", quoted)
    challenge.parameters.setdefault(name.lower(), value)


def _behind(text: str, scheme: re.Match[str] | None) -> re.Match[str] | None:
    """Match up to what follows a scheme: its first parameter, or the next element."""
    if scheme is None or _PARAMETER.match(text, scheme.end()):
        return scheme
    token68 = _TOKEN68.match(text, scheme.end())
    return _END.match(text, token68.end() if token68 else scheme.end())
