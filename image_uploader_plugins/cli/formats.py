# SPDX-License-Identifier: Apache-2.0
"""The formats of results: a text for people, JSON and YAML for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

TEXT, JSON, YAML = "text", "json", "yaml"


def add_option(parser: argparse.ArgumentParser, *names: str, what: str = "the result") -> None:
    """Add ``--format``, maybe with other names before it, which says how ``what`` is written."""
    parser.add_argument(
        *names,
        "--format",
        choices=(TEXT, JSON, YAML),
        default=TEXT,
        help=f"how {what} is written to standard output (default: %(default)s)",
    )


def key(column: str) -> str:
    """Return what the column of a table is called as a key, and in options in any case."""
    return column.lower().replace(" ", "_")


def headings(columns: Iterable[str], form: str) -> tuple[str, ...]:
    """Return what columns are called in a format: keys in JSON and YAML, else their titles."""
    return tuple(map(key, columns) if form in (JSON, YAML) else columns)


def written(result: dict[str, Any], form: str) -> str:
    """Return a result as JSON or YAML."""
    if form == YAML:
        import yaml  # noqa: PLC0415 - for this alone

        return yaml.safe_dump(result, sort_keys=False, allow_unicode=True)
    return json.dumps(result, indent=2) + "\n"
