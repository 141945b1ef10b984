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

_ERRORS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and value.__module__ == errors.__name__
}
_SAID = {"complain", "misused", "ArgumentTypeError"}
_LOGGED = {"warning", "error"}
# What a text is called that becomes a part of a message.
_VARIABLES = {"reason", "problem"}
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
    for path, tree in _trees().items():
        for node in ast.walk(tree):
            for part in _said(node):
                text = bare(_template(part))
                if " " in text and len(re.findall("[a-z]", text)) >= _LETTERS:
                    found[text] = f"{path.relative_to(PROJECT)}:{part.lineno}"
    return found


@functools.cache
def written() -> str:
    """All texts of the sources, as templates, each in a line."""
    nodes = (node for tree in _trees().values() for node in ast.walk(tree))
    return "\n".join(
        _one_line(_template(n)) for n in nodes if isinstance(n, ast.Constant | ast.JoinedStr)
    )


@functools.cache
def _trees() -> dict[Path, ast.Module]:
    paths = (path for path in sorted(PACKAGE.rglob("*.py")) if "testing" not in path.parts)
    return {path: ast.parse(path.read_text()) for path in paths}


@functools.cache
def _makers() -> set[str]:
    """The names of what makes an error: classes, and functions that return one."""
    nodes = [node for tree in _trees().values() for node in ast.walk(tree)]
    classes = {
        n.name: {_name(base) for base in n.bases} for n in nodes if isinstance(n, ast.ClassDef)
    }
    found = set(_ERRORS)
    while more := {name for name, bases in classes.items() if bases & found} - found:
        found |= more
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef) and n.returns]
    return found | {n.name for n in functions if n.returns and _name(n.returns) in found}


def _name(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def _said(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions that are, or become a part of, a message."""
    if isinstance(node, ast.Call):
        name, of = _name(node.func), ast.unparse(node.func).rpartition(".")[0].lower()
        if name in _makers() | _SAID or (name in _LOGGED and "log" in of):
            yield from node.args
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        yield from node.exc.args
    if isinstance(node, ast.Assign) and _name(node.targets[0]) in _VARIABLES:
        yield node.value


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
