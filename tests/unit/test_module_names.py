# SPDX-License-Identifier: Apache-2.0
"""Names of modules: each one once, and none of the standard library's."""

from __future__ import annotations

import collections
import sys
from pathlib import Path

from tests.support.checkout import PROJECT

PACKAGE = PROJECT / "image_uploader_plugins"
COMMANDS = PACKAGE / "cli" / "commands"
# A command's module is called as the command is typed. These names are taken elsewhere.
EXCEPTIONS = {COMMANDS / "gc.py", COMMANDS / "sync.py", COMMANDS / "verify.py"}


def modules() -> list[Path]:
    """Return the modules and the packages of the package."""
    found = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    return found + [path.parent for path in PACKAGE.rglob("__init__.py")]


def of_one_name() -> list[set[Path]]:
    """Return the modules that share their name with others, one set for each name."""
    named = collections.defaultdict(set)
    for path in modules():
        # What a package is about may be in a module that is called as it is.
        if path.stem != path.parent.name:
            named[path.stem.rstrip("_")].add(path)
    return [paths for paths in named.values() if len(paths) > 1]


def of_the_standard_library() -> set[Path]:
    """Return the modules that are called like one of the standard library."""
    return {path for path in modules() if path.stem.strip("_") in sys.stdlib_module_names}


def test_no_two_modules_have_one_name() -> None:
    assert [paths for paths in of_one_name() if len(paths - EXCEPTIONS) > 1] == []


def test_none_is_called_like_one_of_the_standard_library() -> None:
    assert of_the_standard_library() - EXCEPTIONS == set()


def test_every_exception_is_needed() -> None:
    shared: set[Path] = set().union(*of_one_name(), of_the_standard_library())
    assert shared >= EXCEPTIONS
