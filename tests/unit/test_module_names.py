# SPDX-License-Identifier: Apache-2.0
"""Names of modules: each one once, and none of the standard library's."""

from __future__ import annotations

import collections
import sys
from pathlib import Path

from tests.support.checkout import PROJECT

PACKAGE = PROJECT / "image_uploader_plugins"
COMMANDS = PACKAGE / "cli" / "commands"  # called as they are typed


def modules() -> list[Path]:
    """Return the package's modules, and its packages, but those of commands."""
    found = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    found += [path.parent for path in PACKAGE.rglob("__init__.py")]
    return [path for path in found if COMMANDS not in path.parents]


def test_no_two_modules_have_one_name() -> None:
    named = collections.defaultdict(list)
    for path in modules():
        # What a package is about may be in a module that is called as it is.
        if path.stem != path.parent.name:
            named[path.stem.rstrip("_")].append(str(path.relative_to(PROJECT)))
    assert {name: paths for name, paths in named.items() if len(paths) > 1} == {}


def test_none_is_called_like_one_of_the_standard_library() -> None:
    assert [path for path in modules() if path.stem.strip("_") in sys.stdlib_module_names] == []
