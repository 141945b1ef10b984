# SPDX-License-Identifier: Apache-2.0
"""What clients get from the files of a list at any moment, and what is wrong with it.

Files and links are found as nginx.conf and api.htaccess find them.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import posixpath
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import WindowsLayout
from image_uploader_plugins.local_export.views.windows import (
    END,
    GONE,
    HEADS,
    START,
    round_numbers,
)
from tests.unit.local_export.views.memory import TOP, WHOLE, State

_FINER = 16
"""How often the configurations follow a link to a finer division."""

_TYPE_MAP = "+.type-map"

_Place = tuple[str, str]
_WHOLE: _Place = ("", "")  # stands for the whole list


class Answer(NamedTuple):
    """The items that a client gets, and the one to continue after, if a Link tells one."""

    items: list[str]
    following: str | None


class Dangling(Exception):
    """What leads to a window that is not there."""


class Tree:
    """The files and links of one list, as web servers look them up."""

    def __init__(self, state: State) -> None:
        self._folders: dict[str, dict[str, bytes | str]] = collections.defaultdict(dict)
        self._whole: bytes | None = None
        # The places that were looked at, and those that are others now, each a folder and a
        # name; without a name it is whether there is anything in the folder.
        self.looked: set[_Place] = set()
        self.changed: set[_Place] = set()
        for path, content in state.items():
            self.put(path, content)

    def put(self, path: PurePosixPath, content: bytes | str | None) -> None:
        """Have a file (bytes) or link (str) at ``path``; None: nothing."""
        if path == WHOLE:
            assert isinstance(content, bytes)
            self._whole = content
            self.changed.add(_WHOLE)
            return
        folder, name = _split(path)
        held = self._folders[folder]
        was_empty = not held
        if content is None:
            held.pop(name, None)
        else:
            held[name] = content
        self.changed.add((folder, name))
        if was_empty != (not held):
            self.changed.add((folder, ""))

    def _get(self, folder: str, name: str) -> bytes | str | None:
        self.looked.add((folder, name))
        return self._folders[folder].get(name)

    def _is_empty(self, folder: str) -> bool:
        self.looked.add((folder, ""))
        return not self._folders[folder]

    def numbers(self) -> list[int]:
        """Return, of the numbers that clients ask for, the least that leads to each division."""
        least: dict[object, int] = {}
        ways = self._folders[".few"]
        for n in map(int, ways):
            way = ways[str(n)]
            least[way] = min(n, least.get(way, n))
        some_more = next(n for n in round_numbers(1, 10**6) if str(n) not in ways)
        return [*least.values(), some_more]

    def heads(self) -> list[int]:
        """Return the numbers for which a client gets exactly as many items, at the start."""
        names = self._folders[HEADS]
        return [int(name.removesuffix(START + "+")) for name in names if name.endswith(START + "+")]

    def gone(self) -> set[str]:
        """Return the removed items that are remembered."""
        return {layout.item_of(name) for name in self._folders[GONE] if name.endswith("+")}

    def answers(self, n: int, after: str) -> Iterator[Answer | None]:
        """Yield what nginx and then Apache answer; None: that the item is not in the list.

        Raises Dangling.
        """
        place = self._place(n, after)
        if place == _WHOLE:
            assert self._whole is not None
            self.looked.add(_WHOLE)
            yield Answer(_items(self._whole), None)
        elif place:
            yield self._by_link(*place)
            yield self._by_type_map(*place)
        else:
            yield None

    def _place(self, n: int, after: str) -> tuple[str, str] | None:
        """Return the folder, and the name without its mark, of the link to follow."""
        way = self._led(".few", re.sub(r"(?<=^..)\d*", lambda rest: "0" * len(rest[0]), str(n)))
        if not way and after == START:
            return _WHOLE
        if after == START and self._is_file(HEADS, f"{n}{START}"):
            return HEADS, f"{n}{START}"
        name = _name(after)
        label = way or self._led("", ".rest")
        for _ in range(_FINER + 1):
            if self._is_file(label, name):
                return label, name
            label = self._led(label, ".finer")
        found = (label for label in ("16", "4", "1", GONE) if self._is_file(label, name))
        return next(((label, name) for label in found), None)

    def _led(self, folder: str, name: str) -> str:
        """Return the folder that a link leads to; empty where there is none."""
        target = self._get(folder, name) if folder or name == ".rest" else None
        label = target.rpartition("/")[2] if isinstance(target, str) else ""
        return label if label and not self._is_empty(label) else ""

    def _is_file(self, label: str, name: str) -> bool:
        content = self._get(label, name + "+") if label else None
        if not isinstance(content, str):
            return content is not None
        return self._get(*_target(label, name, content)) is not None

    def _by_link(self, label: str, name: str) -> Answer:
        content = self._get(label, name + "+")
        assert content is not None
        if isinstance(content, bytes):
            return Answer(_items(content), None)
        return self._window(*_target(label, name, content))

    def _by_type_map(self, label: str, name: str) -> Answer:
        text = self._get(label, name + _TYPE_MAP)
        if not isinstance(text, bytes):
            # Apache does not learn the window's name, and tells of no following one.
            return Answer(self._by_link(label, name).items, None)
        return self._window(*_target(label, name, text.decode().split("URI: ")[-1].strip()))

    def _window(self, folder: str, file: str) -> Answer:
        content = self._get(folder, file)
        if not isinstance(content, bytes):
            raise Dangling(f"{folder}/{file}")
        last = layout.item_of(file) if file.endswith("=") else END
        return Answer(_items(content), None if last == END else last)


@dataclasses.dataclass(frozen=True)
class Change:
    """A list's items before and after a change."""

    old: Collection[str]
    new: Collection[str]

    @functools.cached_property
    def staying(self) -> list[str]:
        return sorted(set(self.old).intersection(self.new))


class Asking:
    """Clients that ask from the start and after each of ``items``, again and again.

    The items that are ``known`` were in the list, or remembered, all the time.
    """

    def __init__(
        self, tree: Tree, change: Change, items: Iterable[str], known: Collection[str]
    ) -> None:
        self._tree = tree
        self._change = change
        self._starts = (START, *items)
        self._known = known
        # The places that each answer depends on.
        self._looked: dict[tuple[int, str], set[_Place]] = {}

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the answers, as far as they may be others than before."""
        tree, changed = self._tree, self._tree.changed
        tree.changed = set()
        questions = [(n, after) for n in tree.numbers() for after in self._starts]
        for n, after in (*questions, *((n, START) for n in tree.heads())):
            looked = self._looked.get((n, after))
            if looked is None or not looked.isdisjoint(changed):
                tree.looked = self._looked[n, after] = set()
                yield from _wrong(tree, self._change, n, after, self._known)


def _wrong(tree: Tree, change: Change, n: int, after: str, known: Collection[str]) -> Iterator[str]:
    asked = f"n={n}&last={after}"
    try:
        for answer in tree.answers(n, after):
            if answer:
                yield from (f"{asked}: {e} {answer}" for e in _faults(answer, change, n, after))
            elif after == START or after in known:
                yield f"{asked}: not found"
            if answer and answer.following and None in tree.answers(n, answer.following):
                yield f"{asked}: leads to {answer.following}, which leads nowhere"
    except Dangling as e:
        yield f"{asked}: leads to {e}, which is not there"


def _faults(answer: Answer, change: Change, n: int, after: str) -> Iterator[str]:
    items, following = answer
    if items != sorted(set(items)):
        yield "out of order"
    if after != START and items and items[0] <= after:
        yield "once more"
    if len(items) > n:
        yield "too many"
    if following and items[-1:] != [following]:
        yield "ends elsewhere"
    first = 0 if after == START else bisect_right(change.staying, after)
    last = bisect_right(change.staying, following) if following else None
    if lacking := set(change.staying[first:last]).difference(items):
        yield f"lacks {lacking}"


@functools.lru_cache(maxsize=100_000)
def _split(path: PurePosixPath) -> tuple[str, str]:
    folder, slash, name = str(path.relative_to(TOP)).partition("/")
    return (folder, name) if slash else ("", folder)


@functools.lru_cache(maxsize=100_000)
def _target(label: str, name: str, way: str) -> tuple[str, str]:
    target = posixpath.normpath(posixpath.join(TOP, label, posixpath.dirname(name), way))
    return _split(PurePosixPath(target))


@functools.lru_cache(maxsize=100_000)
def _name(item: str) -> str:
    return _split(PurePosixPath(WindowsLayout(TOP).after("1", item)))[1].removesuffix("+")


@functools.lru_cache(maxsize=10_000)
def _items(content: bytes) -> list[str]:
    found: list[str] = json.loads(content)["repositories"]
    return found
