# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a list of images, by a JSON Schema, in words and with the line.

The words come from the schema: ``title`` says what is expected.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from image_uploader_plugins import errors
from image_uploader_plugins.sync import yaml_tree
from image_uploader_plugins.sync.yaml_tree import Mapping, Scalar, Value
from image_uploader_plugins.text import did_you_mean, one_line, redacted, shown

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

# What a value is, apart from how it is written.
_KINDS = ("type", "const", "enum")
_SECRET = "password"  # noqa: S105 - how keys begin whose values nobody is shown


def check(name: str, value: Value, schema: dict[str, Any]) -> None:
    """Raise ConfigurationError unless a value fits a schema: ``FILE:LINE: KEY: what is wrong``."""
    found = sorted(_problems(value, schema))
    if found:
        (line, problem), *others = found
        more = f" (and {len(others)} more like this)" if others else ""
        raise errors.ConfigurationError(f"{name}:{line}: {problem}{more}")


@contextlib.contextmanager
def naming(where: str, key: str) -> Iterator[None]:
    """Have errors of what an operator wrote begin with where it stands."""
    try:
        yield
    except errors.UsageError as e:
        raise errors.ConfigurationError(f"{where}: {key}: {e}") from e


def _problems(value: Value, schema: dict[str, Any]) -> set[tuple[int, str]]:
    return {_words(_innermost(error)) for error in _validator_class()(schema).iter_errors(value)}


@functools.cache
def _validator_class() -> type[Validator]:
    """Return a validator for values of yaml_tree; jsonschema is imported for it alone."""
    import jsonschema  # noqa: PLC0415

    draft = jsonschema.Draft202012Validator
    types = draft.TYPE_CHECKER.redefine_many(
        {
            "array": lambda _, value: isinstance(value, list),
            "boolean": lambda _, value: isinstance(value, Scalar) and value.boolean is not None,
            "integer": lambda _, value: isinstance(value, Scalar) and value.is_integer,
            "null": lambda _, value: isinstance(value, Scalar) and value.is_null,
            "number": lambda _, value: isinstance(value, Scalar) and value.is_number,
            # NOTE: jsonschema asks this of parts of the schema, too.
            "object": lambda _, value: isinstance(value, dict),
            "string": lambda _, value: isinstance(value, Scalar) and not value.is_null,
        }
    )

    def minimum(_: object, least: int, value: Value, __: object) -> Iterator[ValidationError]:
        if isinstance(value, Scalar) and value.is_integer and int(value) < least:
            yield jsonschema.ValidationError(f"less than {least}")

    extend: Callable[..., type[Validator]] = jsonschema.validators.extend
    return extend(draft, {"minimum": minimum}, type_checker=types)


def _innermost(error: ValidationError) -> ValidationError:
    """Return the error of that alternative whose kind of value was written, if it is one."""
    while error.context:
        branches: dict[object, list[ValidationError]] = {}
        for each in error.context:
            branches.setdefault(each.relative_schema_path[0], []).append(each)
        fitting = [branch for branch in branches.values() if not any(map(_is_other_kind, branch))]
        if len(fitting) != 1:
            return error
        error = fitting[0][0]
    return error


def _is_other_kind(error: ValidationError) -> bool:
    return not error.relative_path and error.validator in _KINDS


def _words(error: ValidationError) -> tuple[int, str]:
    """Return the line of an error, and what is wrong."""
    value: Any = error.instance
    schema: Any = error.schema
    keys = [key for key in error.absolute_path if isinstance(key, str)]
    path = f"{one_line(redacted('.'.join(keys)), 200)}: " if keys else ""
    if error.validator == "additionalProperties":
        unknown = next(key for key in value if key not in schema["properties"])
        return value.lines[unknown], f"{path}{_unknown(unknown, schema['properties'])}"
    if error.validator == "required":
        missing = next(key for key in schema["required"] if key not in value)
        return value.line, f"{path}{missing!r} is missing: {schema['properties'][missing]['title']}"
    hidden = bool(keys) and keys[-1].startswith(_SECRET)
    return value.line, f"{path}found {_found(value, hidden=hidden)}, expected {schema['title']}"


def _unknown(key: str, known: Iterable[str]) -> str:
    hint = did_you_mean(key, known) or f"; known are {', '.join(known)}"
    return f"unknown key {shown(key, 50)}{hint}"


def _found(value: Value, *, hidden: bool) -> str:
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, yaml_tree.Sequence):
        return "a list" if value else "an empty list"
    if value.is_null:
        return "nothing"
    return "a text" if hidden else shown(str(value), 50)
