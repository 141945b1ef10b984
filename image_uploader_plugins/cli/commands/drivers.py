# SPDX-License-Identifier: Apache-2.0
"""The command ``image-uploader drivers``."""

from __future__ import annotations

import argparse
import collections
import importlib.metadata
from typing import Any

from image_uploader_plugins import loader
from image_uploader_plugins.cli.base import Lister
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.text import one_line

_COLUMNS = ("Name", "Selected", "Package", "Version", "Loads", "Problem")
_Row = tuple[Any, ...]


class Drivers(Lister):
    """List the drivers that are installed, and whether each loads.

    A driver is an entry point in the group image_uploader_plugins.drivers, of
    any package. The option driver in the section [image_uploader] selects
    one; the exit status is 1 where that one cannot be used.
    """

    examples = ("image-uploader drivers", "image-uploader drivers -f json")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[_Row]]:
        selected = loader.selected(self.conf)
        found = sorted(
            importlib.metadata.entry_points(group=loader.NAMESPACE),
            key=lambda entry_point: (entry_point.name, entry_point.value),
        )
        count = collections.Counter(entry_point.name for entry_point in found)
        rows = [_row(entry_point, selected, count[entry_point.name]) for entry_point in found]
        if selected not in count:
            self.complain(f"driver {selected!r} is selected and not installed")
        for name, chosen, *_, problem in rows:
            if chosen and problem:
                self.complain(f"driver {name!r} is selected and cannot be used: {problem}")
        return _COLUMNS, rows


def _row(entry_point: importlib.metadata.EntryPoint, selected: str, count: int) -> _Row:
    problem = _problem(entry_point)
    if count > 1 and not problem:
        problem = "installed more than once"
    package = entry_point.dist
    return (
        one_line(entry_point.name),
        entry_point.name == selected,
        one_line(package.name) if package else "",
        one_line(package.version) if package else "",
        not problem,
        problem,
    )


def _problem(entry_point: importlib.metadata.EntryPoint) -> str:
    """Return why a driver cannot be used; an empty text if it can."""
    try:
        kind = entry_point.load()
    except (Exception, SystemExit) as e:  # whatever its import does
        return one_line(f"{type(e).__name__}: {e}")
    if not (isinstance(kind, type) and issubclass(kind, UploaderDriver)):
        return one_line(f"{entry_point.value} is not an UploaderDriver")
    return ""
