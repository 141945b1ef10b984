# SPDX-License-Identifier: Apache-2.0
"""The files of a list's windows, which web servers find without reading any.

A division of the list is a folder.  In it, a window is a file that is called
after its last item, and a link called after the item that it comes after
leads there: nginx learns from the target where to lead on.  A link to the
division says for which numbers of items it is; another leads to the next
finer one, for clients that come from where no window of this one begins.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import WindowsLayout
from image_uploader_plugins.local_export.views import documents, windows
from image_uploader_plugins.local_export.views.windows import (
    END,
    GONE,
    HEADS,
    NONE,
    START,
    TAILS,
    DividedList,
    Division,
    Window,
)
from image_uploader_plugins.storage import Storage

_ONE = "1"

Entry = tuple[PurePosixPath, bytes | str]
"""A file with its bytes, or a symbolic link with its target."""


@dataclasses.dataclass
class _Changes:
    """What to write, in this order, and then to remove.

    Whoever asks meanwhile never gets more items than wanted, never lacks one
    that was there all the time, and every link leads somewhere: divisions
    that are new come first; clients are sent to finer ones before windows grow,
    and to coarser ones after others have shrunk; a window that begins sooner
    than before is written before what leads there, one that begins later
    after that.
    """

    new: list[Entry] = dataclasses.field(default_factory=list)
    finer: list[Entry] = dataclasses.field(default_factory=list)
    growing: list[Entry] = dataclasses.field(default_factory=list)
    links: list[Entry] = dataclasses.field(default_factory=list)
    whole: list[Entry] = dataclasses.field(default_factory=list)
    shrinking: list[Entry] = dataclasses.field(default_factory=list)
    coarser: list[Entry] = dataclasses.field(default_factory=list)
    surplus: list[PurePosixPath] = dataclasses.field(default_factory=list)
    folders: list[PurePosixPath] = dataclasses.field(default_factory=list)

    def entries(self) -> Iterator[Entry]:
        return itertools.chain(
            *(self.new, self.finer, self.growing, self.links),
            *(self.whole, self.shrinking, self.coarser),
        )


class WindowFiles:
    """The windows below ``top`` of the list ``whole``, whose text ``render`` makes.

    ``parse`` reads such a text, and raises ValueError, KeyError or TypeError
    for any other.  Callers hold a lock for everything that writes.
    """

    def __init__(
        self,
        storage: Storage,
        top: PurePosixPath,
        whole: PurePosixPath,
        render: Callable[[Iterable[str]], bytes],
        parse: Callable[[bytes], set[str]],
    ) -> None:
        self._storage = storage
        self._layout = WindowsLayout(top)
        self._whole = whole
        self._render = render
        self._parse = parse

    def write(self, items: Collection[str], *, thoroughly: bool = False) -> None:
        """Make the list and its windows be of ``items``.

        Writes what the items that came or went have changed or,
        ``thoroughly``, all that is not as it should be, and removes what is
        no part of it.
        """
        listed = None if thoroughly else self._listed()
        if listed is None:
            self._write_all(DividedList(items, self._gone(self._begun_after(), items, ())))
        elif listed != set(items):
            gone = set(self._names(GONE))
            old = DividedList(listed, gone)
            self._write_changes(old, DividedList(items, self._gone(gone, items, listed)))

    def clear(self) -> None:
        """Remove the list, whole and in windows."""
        self._storage.unlink(self._whole)
        self._storage.remove_tree(self._layout.top)

    # -- what is there

    def _listed(self) -> set[str] | None:
        """Return what the windows are of; None unless the list is just as we write it.

        NOTE: tripleo-common spaces its lists differently, and knows no windows.
        """
        if not self._storage.file(self._layout.none) or not self._storage.file(self._whole):
            return None
        text = self._storage.read(self._whole)
        try:
            listed = self._parse(text)
            is_ours = all(map(layout.is_item, listed)) and self._render(listed) == text
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if listed and not self._storage.link_target(self._layout.rest):
            return None  # a copy of a tree, made with links followed or left out
        return listed if is_ours else None

    def _begun_after(self) -> set[str]:
        """All items after which some window begins."""
        return {*self._names(_ONE), *self._names(GONE)} - {START}

    def _names(self, label: str) -> Iterator[str]:
        for name in self._below(self._layout.division(label)):
            item = layout.item_of(name)
            if name.endswith(layout.AFTER_MARK) and (item == START or layout.is_item(item)):
                yield item

    def _gone(self, gone: Iterable[str], items: Collection[str], were: Iterable[str]) -> set[str]:
        """Which of the items that are gone to remember: what ends long windows, then the latest."""
        now = set(were).difference(items)
        before = set(gone).difference(items)
        if len(now) + len(before) <= windows.REMEMBERED:
            return now | before
        latest = sorted(before, key=self._age, reverse=True)
        return set(
            [*sorted(now, key=windows.checksum, reverse=True), *latest][: windows.REMEMBERED]
        )

    def _age(self, item: str) -> float:
        file = self._storage.status(self._layout.after(GONE, item))
        return file.modified if file else 0.0

    def _below(self, folder: PurePosixPath, start: str = "") -> Iterator[str]:
        """Yield the names of all that is not a folder, at any depth."""
        for name, kind in self._storage.names(folder).items():
            if kind == "folder":
                yield from self._below(folder / name, f"{start}{name}/")
            else:
                yield start + name

    # -- what should be there

    def _write_changes(self, old: DividedList, new: DividedList) -> None:
        changes = _Changes(whole=[(self._whole, self._render(new.items))])
        changed = set(old.items).symmetric_difference(new.items)
        for label, division in new.divisions.items():
            if label in old.divisions:
                self._change(changes, old.divisions[label], new, division, changed)
            else:
                changes.new += self._all_of(new, division)
        for label in (HEADS, GONE):
            self._change_extra(changes, label, old.extra_windows(label), new.extra_windows(label))
        self._change_tails(changes, old, new)
        self._change_ways(changes, old, new)
        try:
            self._storage.publish_all(changes.entries())
        except errors.StorageFull:
            # Whoever has no space left deletes images: what goes makes room for what is changed.
            self._remove_all(changes)
            self._storage.publish_all(changes.entries())
        self._remove_all(changes)

    def _remove_all(self, changes: _Changes) -> None:
        for path in changes.surplus:
            self._remove(path)
        for folder in changes.folders:
            self._storage.remove_tree(folder)
        for folder in {path.parent for path in changes.surplus}:
            if folder.parent == self._layout.top:
                self._storage.remove_empty(folder)

    def _change(
        self,
        changes: _Changes,
        old: Division,
        new: DividedList,
        division: Division,
        changed: set[str],
    ) -> None:
        """One division that was there before."""
        self._change_links(changes, division.label, old.lasts, division.lasts)
        touched = {last for last, _ in division.afters.items() - old.afters.items()}
        touched |= {division.last(item) for item in changed} & division.afters.keys()
        for last in sorted(touched):
            after = division.afters[last]
            shrinks = _is_later(after, old.afters.get(last, after))
            entry = self._window(new, division.label, after, last)
            (changes.shrinking if shrinks else changes.growing).append(entry)
        for last in sorted(old.afters.keys() - division.afters.keys()):
            changes.surplus.append(self._layout.window(division.label, last))

    def _change_links(
        self, changes: _Changes, label: str, before: Mapping[str, str], now: Mapping[str, str]
    ) -> None:
        # One that is new before any that leads to it.
        for item, last in sorted(now.items() - before.items(), key=lambda i: (i[0] in before, i)):
            changes.links += self._link(label, item, last)
            if last in (END, NONE) and before.get(item, END) not in (END, NONE):
                changes.surplus.append(self._layout.after_type_map(label, item))
        for item in sorted(before.keys() - now.keys()):
            changes.surplus += self._link_paths(label, item)

    def _change_extra(
        self, changes: _Changes, label: str, old: Mapping[str, Window], new: Mapping[str, Window]
    ) -> None:
        before, now = (
            {window.last: window.items for window in extra.values()} for extra in (old, new)
        )
        for last, items in now.items():
            if before.get(last) != items and last != NONE:
                changes.growing.append((self._layout.window(label, last), self._render(items)))
        links = ({item: window.last for item, window in extra.items()} for extra in (old, new))
        self._change_links(changes, label, *links)
        for last in sorted(before.keys() - now.keys() - {NONE}):
            changes.surplus.append(self._layout.window(label, last))

    def _change_tails(self, changes: _Changes, old: DividedList, new: DividedList) -> None:
        before, now = old.tails(), new.tails()
        for item in now:
            if item not in before or old.after(item) != new.after(item):
                changes.growing.append(self._tail(new, item))
        if now:
            for item in sorted(set(before).difference(now)):
                changes.surplus.append(self._layout.after(TAILS, item))
        elif before:
            changes.folders.append(self._layout.division(TAILS))

    def _change_ways(self, changes: _Changes, old: DividedList, new: DividedList) -> None:
        """Which division is for whom, and which is finer than which."""
        before, now = dict(self._ladder(old)), dict(self._ladder(new))
        changes.links += sorted(now.items() - before.items())
        changes.surplus += sorted(before.keys() - now.keys())
        for n, was, label in _rerouted(old, new):
            if label is None:
                changes.surplus.append(self._layout.few(n))
            else:
                is_finer = windows.order(label) < windows.order(was)
                way = (self._layout.few(n), f"../{label}")
                (changes.finer if is_finer else changes.coarser).append(way)
        for label in old.divisions.keys() - new.divisions.keys():
            changes.folders.append(self._layout.division(label))

    def _write_all(self, divided: DividedList) -> None:
        entries = dict(self._all(divided))
        folders = {folder for path in entries for folder in path.parents}
        for folder in sorted(filter(self._is_ours, folders)):
            self._make_way(folder, "folder")
        wanted = [entry for entry in entries.items() if not self._holds(*entry)]
        for path, content in wanted:
            self._make_way(path, "link" if isinstance(content, str) else "file")
        self._storage.publish_all(wanted)
        for name in list(self._below(self._layout.top)):
            if self._layout.top / name not in entries:
                self._remove(self._layout.top / name)
        self._remove_empty(self._layout.top, {path.parent for path in entries})

    def _all(self, divided: DividedList) -> Iterator[Entry]:
        yield self._layout.none, self._render(())
        for division in divided.divisions.values():
            yield from self._all_of(divided, division)
        for label in (HEADS, GONE):
            for item, window in divided.extra_windows(label).items():
                if window.last != NONE:
                    yield self._layout.window(label, window.last), self._render(window.items)
                yield from self._link(label, item, window.last)
        yield from (self._tail(divided, item) for item in divided.tails())
        yield from self._ladder(divided)
        yield from (
            (self._layout.few(n), f"../{label}")
            for n, _, label in _rerouted(DividedList(()), divided)
        )
        yield self._whole, self._render(divided.items)

    def _all_of(self, divided: DividedList, division: Division) -> Iterator[Entry]:
        for last, after in division.afters.items():
            yield self._window(divided, division.label, after, last)
        for item, last in division.lasts.items():
            yield from self._link(division.label, item, last)

    # -- one by one

    def _ladder(self, divided: DividedList) -> Iterator[tuple[PurePosixPath, str]]:
        """Which division is finer than which, and the coarsest."""
        labels = [*([GONE] if divided.gone else []), *divided.divisions]
        labels += [TAILS] if divided.tails() else []
        for finer, label in itertools.pairwise(labels if divided.items else ()):
            yield self._layout.finer(label), f"../{finer}"
        if divided.items:
            yield self._layout.rest, labels[-1]

    def _link(self, label: str, item: str, last: str) -> Iterator[Entry]:
        link = self._layout.after(label, item)
        target = self._layout.none if last == NONE else self._layout.window(label, last)
        if last not in (END, NONE):
            text = documents.window_type_map(link.name, _relative(target, link.parent))
            yield self._layout.after_type_map(label, item), text
        yield link, _relative(target, link.parent)

    def _link_paths(self, label: str, item: str) -> list[PurePosixPath]:
        return [self._layout.after_type_map(label, item), self._layout.after(label, item)]

    def _window(self, divided: DividedList, label: str, after: str, last: str) -> Entry:
        return self._layout.window(label, last), self._render(divided.after(after, last))

    def _tail(self, divided: DividedList, item: str) -> Entry:
        return self._layout.after(TAILS, item), self._render(divided.after(item))

    def _is_ours(self, path: PurePosixPath) -> bool:
        return path.is_relative_to(self._layout.top)

    def _make_way(self, path: PurePosixPath, wanted: str) -> None:
        """Remove a folder where none belongs, and whatever stands where one does.

        A copy of a tree that was made with links followed has folders for links.
        """
        found = self._storage.status(path)
        if found and found.kind != wanted and "folder" in (found.kind, wanted):
            self._storage.remove(found)

    def _holds(self, path: PurePosixPath, content: bytes | str) -> bool:
        if isinstance(content, str):
            return self._storage.link_target(path) == content
        return self._storage.holds(path, content)

    def _remove(self, path: PurePosixPath) -> None:
        """Remove what is not there any more, and the folders of names that became empty."""
        self._storage.unlink(path)
        for folder in path.parents:
            if self._layout.top in (folder, folder.parent) or not self._storage.remove_empty(
                folder
            ):
                break

    def _remove_empty(self, folder: PurePosixPath, kept: set[PurePosixPath]) -> None:
        for name, kind in self._storage.names(folder).items():
            if kind == "folder" and folder / name not in kept:
                self._remove_empty(folder / name, kept)
                self._storage.remove_empty(folder / name)


def _rerouted(old: DividedList, new: DividedList) -> Iterator[tuple[int, str | None, str | None]]:
    """Yield the numbers that another division is for now: which was, and which is."""
    steps = sorted((old.steps() | new.steps()) - {0})
    for first, following in itertools.pairwise(steps):
        before, now = old.label(first), new.label(first)
        if before != now:
            yield from ((n, before, now) for n in range(first, following))


def _relative(path: PurePosixPath, folder: PurePosixPath) -> str:
    return os.path.relpath(path, folder)


def _is_later(item: str, other: str) -> bool:
    return item != START and (other == START or item > other)
