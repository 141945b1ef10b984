"""``image-uploader drivers``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from image_uploader_plugins import errors, loader
from image_uploader_plugins.cli import cells
from image_uploader_plugins.cli.command import Lister

_COLUMNS = ("Name", "Selected", "Package", "Version", "Class", "Loads", "Error")


class Drivers(Lister):
    """List the drivers that are installed: what images can be written to.

    Those are the entry points of the group image_uploader_plugins.drivers.
    Each is loaded, and Error says why one cannot be used; [image_uploader]
    driver selects one. The exit status is 1 if that one is not usable.
    """

    examples = ("image-uploader drivers", "image-uploader drivers -f json")

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[Sequence[str], Iterator[tuple[Any, ...]]]:
        selected = loader.selected(self.conf)
        found = sorted(entry_points(group=loader.NAMESPACE), key=lambda e: (e.name, e.value))
        problems = {entry_point: self._problem(entry_point) for entry_point in found}
        try:
            loader.load_class(selected)
        except errors.ConfigurationError as e:
            self.complain(e)
        return _COLUMNS, (
            _row(entry_point, problem, selected=entry_point.name == selected)
            for entry_point, problem in problems.items()
        )

    def _problem(self, entry_point: EntryPoint) -> str:
        """Why it is no driver; empty for one."""
        try:
            loader.check_class(entry_point.load())
        except (
            Exception,
            SystemExit,
        ) as e:  # whatever a module of others raises while it is imported
            return f"{type(e).__name__}: {e}"
        return ""


def _row(entry_point: EntryPoint, problem: str, *, selected: bool) -> tuple[Any, ...]:
    package = entry_point.dist
    return (
        entry_point.name,
        cells.YesNo(selected),
        package.name if package else "",
        package.version if package else "",
        entry_point.value,
        cells.YesNo(not problem),
        cells.line(problem),
    )
