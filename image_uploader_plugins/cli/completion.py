# SPDX-License-Identifier: Apache-2.0
"""Completion of command lines: the shell asks this program, with argcomplete's protocol."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import argcomplete
from argcomplete.shell_integration import shellcode

from image_uploader_plugins import loader
from image_uploader_plugins.cli import arguments
from image_uploader_plugins.local_export import options
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import RepositoryName


def script(program: str, shell: str) -> str:
    """Return what makes a shell ask the program for completions."""
    return shellcode([program], shell=shell)


def answer(app: Any) -> None:
    """Write what the shell asks ``app`` for, and end the process; return where no shell asks.

    It is cli.program's Main.
    """
    asked = os.environ.get("COMP_LINE", "")[: int(os.environ.get("COMP_POINT", "0"))]
    argcomplete.autocomplete(_parser(app, asked.split()[1:]))


def _parser(app: Any, words: list[str]) -> argparse.ArgumentParser:
    """Return a parser of all commands, of which that one is complete which is in the ``words``."""
    parser: argparse.ArgumentParser = app.parser
    commands = parser.add_subparsers(parser_class=argparse.ArgumentParser)
    names = sorted(name for name, _ in app.command_manager)
    chosen = next((word for word in words if word in names), None)
    for name, text in app.command_manager.described():
        commands.add_parser(name, help=text)
    if chosen:
        kind, _, _ = app.command_manager.find_command([chosen])
        completed = kind(app, None, chosen).get_parser(chosen)
        _add_completers(completed, names)
        commands.choices[chosen] = completed
    return parser


def _add_completers(parser: argparse.ArgumentParser, names: list[str]) -> None:
    for action in parser._actions:
        if action.dest == "cmd":
            action.choices = names
        elif completer := _COMPLETERS.get(action.type):
            # NOTE: argcomplete looks there.
            setattr(action, "completer", completer)  # noqa: B010


@contextlib.contextmanager
def _tree(parsed_args: argparse.Namespace) -> Iterator[Tree]:
    root = getattr(parsed_args, "root", None)
    if not root:
        conf = loader.load_conf(config_files=parsed_args.config_file)
        root = options.values(conf).root
    with contextlib.closing(Tree(root, look=True)) as tree:
        yield tree


def _repositories(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    with _tree(parsed_args) as tree:
        return list(map(str, tree.repositories()))


def _images(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
    """Return names of repositories or, behind a colon, of the tags in one."""
    name, colon, _tag = prefix.partition(":")
    with _tree(parsed_args) as tree:
        if not colon:
            return [f"{repository}:" for repository in tree.repositories()]
        return [f"{name}:{tag}" for tag in tree.repository(RepositoryName(name)).tags()]


_COMPLETERS: dict[object, Callable[..., list[str]]] = {
    arguments.image: _images,
    arguments.pattern: _images,
    arguments.repository: _repositories,
    arguments.repositories: _repositories,
}
