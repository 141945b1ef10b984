# SPDX-License-Identifier: Apache-2.0
"""Every public method says what it does, itself or by its interface."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import image_uploader_plugins

# How unittest calls them; their names say what they show.
_TESTS = ("test_", "setUp", "tearDown")


def modules() -> Iterator[ModuleType]:
    package = image_uploader_plugins
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield importlib.import_module(found.name)


def methods(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name, cls in inspect.getmembers(module, inspect.isclass):
        if cls.__module__ == module.__name__ and not name.startswith("_"):
            for attribute, value in vars(cls).items():
                called = isinstance(value, classmethod | staticmethod | property)
                if (called or inspect.isfunction(value)) and not attribute.startswith("_"):
                    yield f"{module.__name__}.{name}.{attribute}", getattr(cls, attribute)


def test_public_methods_have_docstrings() -> None:
    """Ruff's D102 would ask for one of each implementation, too."""
    found = dict(method for module in modules() for method in methods(module))
    assert len(found) > 300
    assert [
        name
        for name, method in found.items()
        if not inspect.getdoc(method) and not name.rpartition(".")[2].startswith(_TESTS)
    ] == []
