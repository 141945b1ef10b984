# SPDX-License-Identifier: Apache-2.0
"""YAML as it is written: each value with its line, scalars as the text that stands there.

``1.10``, ``on`` and ``2024-01-01`` are tags, and YAML makes a number, a boolean
and a date of them.  Here a scalar is a text, and whoever reads it says what
it has to be.  A file of a stranger costs no more than its size: nesting and
values are counted, those behind aliases, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from image_uploader_plugins import errors, files
from image_uploader_plugins.text import shown

VALUES_LIMIT = 500_000
DEPTH_LIMIT = 32

# NOTE: PyYAML has it where it was built with libyaml; it is ten times as fast.
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT = "tag:yaml.org,2002:str"
# YAML 1.2, 10.3.2, and the words of 1.1 that people write.
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NULLS = ("", "~", "null", "Null", "NULL")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(\.[0-9]*)?")


class Scalar(str):
    """The text of a scalar in its line, which ``is_plain`` without quotes."""

    line: int
    is_plain: bool

    @classmethod
    def of(cls, text: str, line: int, *, is_plain: bool) -> Scalar:
        """Return a text as it stands in a file."""
        made = cls(text)
        made.line, made.is_plain = line, is_plain
        return made

    @property
    def is_null(self) -> bool:
        """Return whether nothing stands there, or a word for it."""
        return self.is_plain and self in _NULLS

    @property
    def boolean(self) -> bool | None:
        """Return what a word such as ``true`` means, None for anything else."""
        return _BOOLEANS.get(self.lower())

    @property
    def is_number(self) -> bool:
        """Return whether it is a number in decimal digits."""
        return bool(_NUMBER.fullmatch(self))

    @property
    def is_integer(self) -> bool:
        """Return whether it is a whole number in decimal digits."""
        return self.is_number and "." not in self


class Sequence(list["Value"]):
    """A list; ``line`` is where it begins."""

    line: int


class Mapping(dict[str, "Value"]):
    """A mapping; ``lines`` says where its keys stand."""

    line: int

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


Value = Scalar | Sequence | Mapping


def mapping(value: Value | None) -> Mapping:
    """Return a value that is a mapping, an empty one for anything else."""
    return value if isinstance(value, Mapping) else Mapping()


def sequence(value: Value | None) -> Sequence:
    """Return a value that is a list, an empty one for anything else."""
    return value if isinstance(value, Sequence) else Sequence()


def read(name: str, text: str) -> Value:
    """Return the one document of a YAML text, an empty scalar where there is none.

    Raises ConfigurationError, beginning with ``name`` and the line: also for
    a key that stands twice in one mapping, and for tags (``!name``) of types.
    """
    try:
        return _Builder(name).build(yaml.parse(text, Loader=_Loader))
    except yaml.YAMLError as e:
        raise errors.ConfigurationError(f"{name} is not yaml{files.yaml_problem(e)}") from None


class _Builder:
    """What has been read of a document."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._root: Value = Scalar.of("", 1, is_plain=True)
        self._documents = 0
        self._values = 0
        # Open collections, each with its anchor, and how many values there were before it.
        self._open: list[tuple[Sequence | Mapping, str | None, int]] = []
        self._key: Scalar | None = None
        self._anchors: dict[str, tuple[Value, int]] = {}

    def build(self, events: Iterator[yaml.Event]) -> Value:
        for event in events:
            self._take(event)
        return self._root

    def _take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._error(line, "a second document begins, which is not read")
        elif isinstance(event, yaml.ScalarEvent):
            self._add(self._scalar(event, line), line, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._add_alias(str(event.anchor), line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end()

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> Scalar:
        self._check_tag(event.tag, line, _TEXT)
        return Scalar.of(event.value, line, is_plain=event.implicit[0])

    def _begin(self, event: yaml.CollectionStartEvent, line: int) -> None:
        self._check_tag(event.tag, line)
        if len(self._open) == DEPTH_LIMIT:
            raise self._error(line, f"values are nested more than {DEPTH_LIMIT} deep")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        collection: Sequence | Mapping = Mapping() if is_mapping else Sequence()
        collection.line = line
        before = self._values
        self._add(collection, line, None)
        self._open.append((collection, event.anchor, before))

    def _end(self) -> None:
        collection, anchor, before = self._open.pop()
        if anchor:
            self._anchors[anchor] = (collection, self._values - before)

    def _add_alias(self, anchor: str, line: int) -> None:
        # NOTE: a collection has its name from its end on, so that none can be inside itself.
        if anchor not in self._anchors:
            raise self._error(line, "an alias (*name) has no anchor (&name) before it")
        value, count = self._anchors[anchor]
        self._add(value, line, None, count)

    def _add(self, value: Value, line: int, anchor: str | None, count: int = 1) -> None:
        self._values += count
        if self._values > VALUES_LIMIT:
            raise self._error(line, f"more than {VALUES_LIMIT} values")
        if anchor:
            self._anchors[anchor] = (value, count)
        around = self._open[-1][0] if self._open else None
        if around is None:
            self._root = value
        elif isinstance(around, Sequence):
            around.append(value)
        elif self._key is None:
            self._key = self._new_key(around, value, line)
        else:
            around[str(self._key)] = value
            self._key = None

    def _new_key(self, mapping: Mapping, value: Value, line: int) -> Scalar:
        if not isinstance(value, Scalar):
            raise self._error(line, "a key of a mapping must be a text")
        if value in mapping:
            raise self._error(
                line, f"{shown(value)} stands twice in one mapping (line {mapping.lines[value]})"
            )
        mapping.lines[str(value)] = line
        return value

    def _check_tag(self, tag: str | None, line: int, *known: str) -> None:
        if tag not in (None, "!", *known):
            raise self._error(line, "types (!name) are not read; write a text, a list or a mapping")

    def _error(self, line: int, reason: str) -> errors.ConfigurationError:
        return errors.ConfigurationError(f"{self._name}:{line}: {reason}")
