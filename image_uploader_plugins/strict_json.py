# SPDX-License-Identifier: Apache-2.0
"""JSON that everybody reads alike.

Clients are written in Go, whose decoder takes the last of two fields of one
name and ignores case, so a document may mean one thing to us and another to
clients. A document that can be read in two ways is refused.
"""

from __future__ import annotations

import codecs
import collections
import functools
import itertools
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from image_uploader_plugins import errors
from image_uploader_plugins.text import shown

Fields = Mapping[str, Any]

VALUES_LIMIT = 250_000
"""Values of a document.

4 MiB of descriptors are fewer; as many empty lists would take 60 times their
bytes in memory.
"""

LEVELS_LIMIT = 200
"""Lists and objects that may be inside each other.

The decoder's own limit is the interpreter's: where it is reached, whatever else
runs just then fails too, such as the end of an object that nobody holds.
"""

# NOTE: also one without an end, or each of its quotes would be tried as the first of a string.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


def load(content: bytes, what: str = "manifest") -> Fields:
    """Read a JSON object, called ``what`` in errors; raises ManifestInvalid.

    RFC 8259, sections 4 and 8.1: UTF-8, and no name twice in one object.
    """
    fields = load_any(content, what)
    if not isinstance(fields, dict):
        raise errors.ManifestInvalid(f"{what} is not a JSON object")
    return fields


def load_any(content: bytes, what: str = "manifest") -> Any:
    """Read JSON of any kind, as strictly; ``what`` it is called in a ManifestInvalid."""
    if _count(content) > VALUES_LIMIT and _has_too_many_values(content):
        raise errors.ManifestInvalid(f"{what} has more than {VALUES_LIMIT} values")
    _check_levels(content, what)
    try:
        return _DECODER.decode(content.decode("utf-8"))
    except errors.ManifestInvalid:
        raise
    except ValueError as e:
        raise errors.ManifestInvalid(f"{what} is not JSON: {e}") from e


def load_leniently(content: bytes) -> Any:
    """Read JSON of any kind as json.loads() does; raises ValueError, also for too many levels."""
    _check_levels(content, "a document")
    return json.loads(content.removeprefix(codecs.BOM_UTF8).decode("utf-8"))


def check_names(fields: Fields, known: frozenset[str]) -> None:
    """Raise ManifestInvalid for a name that others read as one of ``known``, and we do not.

    Source: Go, encoding/json, Unmarshal: "preferring exact matches but also
    accepting case-insensitive matches", by Unicode's folding.
    """
    if fields.keys() <= known:
        return  # as in most documents
    for name in fields:
        meant = _folded(known).get(name.casefold(), name)
        if meant != name:
            raise errors.ManifestInvalid(f"{shown(name)}: some read it as {meant!r}")


@functools.cache
def _folded(known: frozenset[str]) -> Mapping[str, str]:
    return {name.casefold(): name for name in known}


def _has_too_many_values(content: bytes) -> bool:
    count = end = 0
    for string in _STRING.finditer(content):
        count += _count(content[end : string.start()])
        end = string.end()
        if count > VALUES_LIMIT:
            return True
    return count + _count(content[end:]) > VALUES_LIMIT


def _count(content: bytes) -> int:
    """Return the values of a document, or more where its strings look like some."""
    return content.count(b",") + _brackets(content)


def _brackets(content: bytes) -> int:
    return content.count(b"[") + content.count(b"{")


def _check_levels(content: bytes, what: str) -> None:
    if _brackets(content) <= LEVELS_LIMIT:
        return  # as in most documents
    brackets = _STRING.sub(b"", content).translate(None, _OTHERS)
    if max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > LEVELS_LIMIT:
        raise errors.ManifestInvalid(
            f"{what} is nested too deeply, in more than {LEVELS_LIMIT} levels"
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        (twice, _), *_ = collections.Counter(name for name, _ in pairs).most_common(1)
        raise errors.ManifestInvalid(f"{shown(twice)} stands twice in one object")
    return fields


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


# What json.loads() would make anew for each document.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_OTHERS = bytes(set(range(256)) - _STEPS.keys())
