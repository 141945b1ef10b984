# SPDX-License-Identifier: Apache-2.0
"""The subcommands that are installed, found and described without importing any."""

from __future__ import annotations

import importlib.abc
import importlib.util
import inspect
import re
from collections.abc import Iterator
from typing import Any

from cliff import command, commandmanager
from stevedore import named


class CommandList(commandmanager.CommandManager):
    """A command manager that imports a subcommand when it is asked for, and no other.

    NOTE: cliff's imports all of them at once, whichever is asked for.
    """

    def load_commands(self, namespace: str) -> None:
        self.group_list.append(namespace)
        found: named.NamedExtensionManager[command.Command]
        found = named.NamedExtensionManager(namespace, [])
        for entry_point in found.list_entry_points():
            self.commands[entry_point.name] = entry_point

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each subcommand and what it does, in a few words, sorted."""
        for name, entry_point in sorted(self):
            try:
                text = _summary(entry_point)
            except Exception as e:  # whatever its import does
                text = f"cannot be loaded: {e}"
            yield name, text.rstrip(".")


def _summary(entry_point: Any) -> str:
    """Return the first line of a subcommand's docstring, from its source where that has one.

    NOTE: to parse the source of all of them takes as long as all else that help does.
    """
    module, _, name = entry_point.value.partition(":")
    spec = importlib.util.find_spec(module)
    if spec and spec.loader and isinstance(spec.loader, importlib.abc.InspectLoader):
        source = spec.loader.get_source(module) or ""
        if found := re.search(rf'^class {name}\b[^"]*:\n    """(.+)', source, re.MULTILINE):
            return found[1].removesuffix('"""')
    return (inspect.getdoc(entry_point.load()) or "").partition("\n")[0]
