# SPDX-License-Identifier: Apache-2.0
"""What the sources say to people: the texts of errors, warnings and complaints.

A template is such a text with ``<>`` where the code puts a value.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from image_uploader_plugins import errors
from tests.support.checkout import PROJECT

PACKAGE = PROJECT / "image_uploader_plugins"

_ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type)}
_SAID = {"complain", "misused"}
_LOGGED = {"warning", "error"}
_HOLE = re.compile(r"%(?:\.\d+)?[sdr]")
# What stands before and after: a place, a path, a reason.
_EDGES = re.compile(r"^(?:[\s:,]|line|<>)+|(?:[\s:,(]|<>\)?)+$")
_LETTERS = 8  # in a text that says something by itself


def bare(template: str) -> str:
    """A template without the values at its ends, and in one line."""
    return _EDGES.sub("", _one_line(template))


def _one_line(template: str) -> str:
    return " ".join(re.sub(r"(?:<>)+", "<>", template).split())


@functools.cache
def told() -> dict[str, str]:
    """The bare templates of all messages, and where they are in the sources."""
    found: dict[str, str] = {}
    for path in _sources():
        for call in filter(_is_said, ast.walk(ast.parse(path.read_text()))):
            assert isinstance(call, ast.Call)
            for argument in call.args:
                text = bare(_template(argument))
                if len(re.findall("[a-z]", text)) >= _LETTERS:
                    found[text] = f"{path.relative_to(PROJECT)}:{call.lineno}"
    return found


@functools.cache
def written() -> str:
    """All texts of the sources, as templates, each in a line."""
    trees = (ast.parse(path.read_text()) for path in _sources())
    nodes = (node for tree in trees for node in ast.walk(tree))
    return "\n".join(
        _one_line(_template(n)) for n in nodes if isinstance(n, ast.Constant | ast.JoinedStr)
    )


def _sources() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "testing" not in path.parts:
            yield path


def _is_said(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id in _ERRORS
    if isinstance(node.func, ast.Attribute):
        name, of = node.func.attr, ast.unparse(node.func.value).lower()
        return name in _ERRORS | _SAID or (name in _LOGGED and "log" in of)
    return False


def _template(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return _HOLE.sub("<>", node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            "<>" if isinstance(v, ast.FormattedValue) else _template(v) for v in node.values
        )
    if isinstance(node, ast.BinOp):
        return _template(node.left) + _template(node.right)
    return ""
