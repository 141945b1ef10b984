# SPDX-License-Identifier: Apache-2.0
"""The files of a list's windows, which web servers find without reading a file.

Each division of the list has a folder. In it, a window is a file with the name
of its last item. A link with the name of the item before the window leads to
it; from the target, nginx learns where the next window begins. For each number
of items that a client may ask for, a link leads to the division to use. Another
link leads from a division to the next finer one, for clients that continue
after an item at which no window of the first one begins.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import WindowsLayout
from image_uploader_plugins.local_export.views import documents, windows
from image_uploader_plugins.local_export.views.kept_lists import LISTS, KeptList, identity
from image_uploader_plugins.local_export.views.windows import (
    END,
    GONE,
    HEADS,
    NONE,
    START,
    TAILS,
    Change,
    DividedList,
    Division,
    Window,
)
from image_uploader_plugins.storage import Writer

_ONE = "1"

Entry = tuple[PurePosixPath, bytes | str]
"""A file with its bytes, or a symbolic link with its target."""


@dataclasses.dataclass
class _Changes:
    """The files and links to write, in this order, and then those to remove.

    A client that reads meanwhile never gets more items than it asked for, never
    misses an item that was there all the time, and finds every link leading
    somewhere. So new divisions are written first. Clients are led to finer
    divisions before windows grow, and to coarser ones after others have shrunk.
    A window that now begins earlier is written before the links to it, one that
    begins later after them.
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
    """The windows below ``top`` of the list ``whole``, whose text without items is ``empty``.

    Items are tags or names of repositories. Callers hold a lock for every
    method that writes.
    """

    def __init__(
        self, storage: Writer, top: PurePosixPath, whole: PurePosixPath, empty: bytes
    ) -> None:
        self._storage = storage
        self._layout = WindowsLayout(top)
        self._whole = whole
        self._empty = empty
        self._key = storage.root / whole

    def write(self, items: Collection[str], *, thoroughly: bool = False) -> None:
        """Write the list and its windows for these items.

        Only files that differ because of items that came or went are written.
        With ``thoroughly``, all files that are not as they should be are
        written, and all others removed.
        """
        items = set(items)
        kept = LISTS.take(self._key)
        kept = None if thoroughly else self._valid(kept) or self._on_disk(items)
        if kept:
            changed = items.symmetric_difference(kept.divided.items)
            self._revise(kept, changed & items, changed - items)
        else:
            self._write_all(DividedList(items, self._gone(self._begun_after(), items)))

    def change(
        self,
        added: Iterable[str],
        removed: Iterable[str],
        everything: Callable[[], Collection[str]],
    ) -> None:
        """Write what differs because items came or went since the list was written.

        ``everything`` returns all items. It is called only where this process
        does not know the list that is on disk.
        """
        kept = self._valid(LISTS.take(self._key))
        if kept:
            divided = kept.divided
            came = {item for item in added if item not in divided}
            self._revise(kept, came, {item for item in removed if item in divided})
        else:
            self.write(everything())

    def lists(self, item: str) -> bool | None:
        """Return whether an item is listed; None where this process does not know the list."""
        kept = self._valid(LISTS.get(self._key))
        return item in kept.divided if kept else None

    def clear(self) -> None:
        """Remove the list, whole and in windows."""
        LISTS.take(self._key)
        self._storage.unlink(self._whole)
        self._storage.remove_tree(self._layout.top)

    # -- the files that are there

    def _valid(self, kept: KeptList | None) -> KeptList | None:
        """Return a list that was kept, if its file is still the one on disk."""
        if kept is None or not self._has_windows(bool(kept.divided.items)):
            return None
        file = self._storage.file(self._whole)
        return kept if file and identity(file) == kept.identity else None

    def _has_windows(self, has_items: bool) -> bool:
        if not self._storage.file(self._layout.none):
            return False
        # A copy of a tree may be without its links.
        return not has_items or self._storage.link_target(self._layout.rest) is not None

    def _on_disk(self, known: Collection[str]) -> KeptList | None:
        """Return the list on disk; None unless the list is exactly as we write it.

        Its items that are not ``known`` to be tags or names are checked.

        NOTE: tripleo-common writes its lists with other spaces, and without
        windows.
        """
        file = self._storage.file(self._whole)
        if not file:
            return None
        items = documents.items_of(self._empty, self._storage.read(self._whole))
        if items is None or not self._has_windows(bool(items)):
            return None
        if not all(map(layout.is_item, set(items).difference(known))):
            return None
        return KeptList(DividedList(items, self._names(GONE)), identity(file), {})

    def _begun_after(self) -> set[str]:
        """Return all items after which a window begins."""
        return {*self._names(_ONE), *self._names(GONE)} - {START}

    def _names(self, label: str) -> Iterator[str]:
        for name in self._below(self._layout.division(label)):
            item = layout.item_of(name)
            if name.endswith(layout.AFTER_MARK) and (item == START or layout.is_item(item)):
                yield item

    def _gone(
        self,
        gone: Iterable[str],
        items: Collection[str],
        removed: Collection[str] = (),
        ages: dict[str, float] | None = None,
    ) -> set[str]:
        """Return which removed items to remember: those that end long windows, then the latest.

        ``gone`` were removed before. None of ``items`` is among them now.
        ``ages`` are those that are known, and get all that are looked at.
        """
        before = set(gone).difference(items)
        if len(removed) + len(before) <= windows.REMEMBERED:
            return before.union(removed)
        ages = {} if ages is None else ages
        for item in before - ages.keys():
            ages[item] = self._age(item)
        latest = sorted(before, key=lambda item: (ages[item], item), reverse=True)
        first = sorted(removed, key=windows.checksum, reverse=True)
        return set([*first, *latest][: windows.REMEMBERED])

    def _age(self, item: str) -> float:
        file = self._storage.status(self._layout.after(GONE, item))
        return file.modified if file else 0.0

    def _below(self, folder: PurePosixPath, start: str = "") -> Iterator[str]:
        """Yield the names of all entries that are not folders, at any depth."""
        for name, kind in self._storage.names(folder).items():
            if kind == "folder":
                yield from self._below(folder / name, f"{start}{name}/")
            else:
                yield start + name

    # -- the files that should be there

    def _revise(self, kept: KeptList, added: Collection[str], removed: Collection[str]) -> None:
        """Write what differs from a list because items came or went, and keep the new list.

        When that fails, no list is kept.
        """
        if added or removed:
            ages = kept.ages.copy()
            gone = self._gone(kept.divided.gone, added, removed, ages)
            change = kept.divided.changed(added, removed, gone)
            changes = self._changes(change)
            self._write_changes(changes, removed=bool(removed))
            self._storage.afterwards(lambda: self._keep(kept, change.new, ages, changes))
        else:
            LISTS.put(self._key, kept)

    def _keep(
        self, before: KeptList, divided: DividedList, ages: dict[str, float], changes: _Changes
    ) -> None:
        """Keep a list that was written, unless its file is not the one that was written."""
        file = self._storage.file(self._whole)
        size = sum(len(content) for _, content in changes.whole)
        if file and file.size == size and file.inode != before.identity[0]:
            links = {path for path, _ in changes.links}
            known = {
                item: age
                for item, age in ages.items()
                if item in divided.gone and self._layout.after(GONE, item) not in links
            }
            LISTS.put(self._key, KeptList(divided, identity(file), known))

    def _changes(self, change: Change) -> _Changes:
        old, new = change.old, change.new
        changes = _Changes(whole=[(self._whole, self._render(new.items))])
        for label, division in new.divisions.items():
            if label in old.divisions:
                self._change(changes, change, division)
            else:
                changes.new += self._all_of(new, division)
        for label in (HEADS, GONE):
            self._change_extra(changes, label, old.extra_windows(label), new.extra_windows(label))
        self._change_tails(changes, old, new)
        self._change_ways(changes, old, new)
        return changes

    def _write_changes(self, changes: _Changes, *, removed: bool) -> None:
        try:
            self._storage.publish_all(changes.entries())
        except errors.StorageFull:
            # A full disk must not prevent a delete: removed files make room for changed ones.
            self._remove_all(changes)
            self._storage.publish_all(changes.entries())
        if removed and changes.surplus:
            # Removed items are remembered in what was just written, or in what goes now.
            self._storage.sync()
        self._remove_all(changes)

    def _remove_all(self, changes: _Changes) -> None:
        for path in changes.surplus:
            self._remove(path)
        for folder in changes.folders:
            self._storage.remove_tree(folder)
        for folder in {path.parent for path in changes.surplus}:
            if folder.parent == self._layout.top:
                self._storage.remove_empty(folder)

    def _change(self, changes: _Changes, change: Change, division: Division) -> None:
        """Add the changes of one division that was there before."""
        label = division.label
        before, now = change.afters(label)
        old, new = change.old.divisions[label], division
        self._change_links(changes, label, old.inverse(before), new.inverse(now))
        touched = {last for last, _ in now.items() - before.items()}
        touched |= {division.last(item) for item in change.items} & now.keys()
        for last in sorted(touched):
            after = now[last]
            if last in before and change.is_same(last, before[last], after):
                continue
            shrinks = _is_later(after, before.get(last, after))
            entry = self._window(change.new, label, after, last)
            (changes.shrinking if shrinks else changes.growing).append(entry)
        for last in sorted(before.keys() - now.keys()):
            changes.surplus.append(self._layout.window(label, last))

    def _change_links(
        self, changes: _Changes, label: str, before: Mapping[str, str], now: Mapping[str, str]
    ) -> None:
        # A new link is written before the links of items that were there before.
        for item, last in sorted(now.items() - before.items(), key=lambda i: (i[0] in before, i)):
            changes.links += self._link(label, item, last)
            if last in (END, NONE) and before.get(item, END) not in (END, NONE):
                changes.surplus.append(self._layout.after_type_map(label, item))
        for item in sorted(before.keys() - now.keys()):
            if before[item] not in (END, NONE):
                changes.surplus.append(self._layout.after_type_map(label, item))
            changes.surplus.append(self._layout.after(label, item))

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
        """Add the changes of the links that lead clients to divisions, and to finer ones."""
        if _ladder(old) != _ladder(new):
            before, now = dict(self._ways(old)), dict(self._ways(new))
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
        parents = {path.parent for path in entries}
        folders = parents.union(*(folder.parents for folder in parents))
        for folder in sorted(filter(self._is_ours, folders)):
            self._make_way(folder, "folder")
        wanted = [entry for entry in entries.items() if not self._holds(*entry)]
        for path, content in wanted:
            self._make_way(path, "link" if isinstance(content, str) else "file")
        self._storage.publish_all(wanted)
        names = [n for n in self._below(self._layout.top) if self._layout.top / n not in entries]
        if names:
            self._storage.sync()
        for name in names:
            self._remove(self._layout.top / name)
        self._remove_empty(self._layout.top, parents)

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
        yield from self._ways(divided)
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

    def _ways(self, divided: DividedList) -> Iterator[tuple[PurePosixPath, str]]:
        """Yield the link from each division to the next finer one, and to the coarsest."""
        labels = _ladder(divided)
        for finer, label in itertools.pairwise(labels):
            yield self._layout.finer(label), f"../{finer}"
        if labels:
            yield self._layout.rest, labels[-1]

    def _link(self, label: str, item: str, last: str) -> Iterator[Entry]:
        link = self._layout.after(label, item)
        target = self._layout.none if last == NONE else self._layout.window(label, last)
        way = _relative(target, link.parent)
        if last not in (END, NONE):
            text = documents.window_type_map(link.name, way)
            yield self._layout.after_type_map(label, item), text
        yield link, way

    def _render(self, items: Sequence[str]) -> bytes:
        return documents.filled(self._empty, items)

    def _window(self, divided: DividedList, label: str, after: str, last: str) -> Entry:
        return self._layout.window(label, last), self._render(divided.after(after, last))

    def _tail(self, divided: DividedList, item: str) -> Entry:
        return self._layout.after(TAILS, item), self._render(divided.after(item))

    def _is_ours(self, path: PurePosixPath) -> bool:
        return path.is_relative_to(self._layout.top)

    def _make_way(self, path: PurePosixPath, wanted: str) -> None:
        """Remove a folder where a file or link belongs, and anything else where a folder belongs.

        A copy of a tree that was made with links followed has folders in the
        place of links.
        """
        found = self._storage.status(path)
        if found and found.kind != wanted and "folder" in (found.kind, wanted):
            self._storage.remove(found)

    def _holds(self, path: PurePosixPath, content: bytes | str) -> bool:
        if isinstance(content, str):
            return self._storage.link_target(path) == content
        return self._storage.holds(path, content)

    def _remove(self, path: PurePosixPath) -> None:
        """Remove a file or link, and the folders of names that become empty."""
        self._storage.unlink(path)
        within = path.relative_to(self._layout.top)
        if within.parts[1:]:
            self._storage.remove_upward(path.parent, self._layout.division(within.parts[0]))

    def _remove_empty(self, folder: PurePosixPath, kept: set[PurePosixPath]) -> None:
        for name, kind in self._storage.names(folder).items():
            if kind == "folder" and folder / name not in kept:
                self._remove_empty(folder / name, kept)
                self._storage.remove_empty(folder / name)


def _ladder(divided: DividedList) -> list[str]:
    """Return the divisions of a list that clients are led to, and the finer ones after these."""
    if not divided.items:
        return []
    gone, tails = [GONE] * bool(divided.gone), [TAILS] * bool(divided.tails())
    return [*gone, *divided.divisions, *tails]


def _rerouted(old: DividedList, new: DividedList) -> Iterator[tuple[int, str | None, str | None]]:
    """Yield each number of items whose division changes, with its old and its new one."""
    steps = sorted((old.steps() | new.steps()) - {0})
    for first, following in itertools.pairwise(steps):
        before, now = old.label(first), new.label(first)
        if before != now:
            yield from ((n, before, now) for n in range(first, following))


def _relative(path: PurePosixPath, folder: PurePosixPath) -> str:
    # Most links lead to a window beside them, and the general way takes longer.
    return path.name if path.parent == folder else os.path.relpath(path, folder)


def _is_later(item: str, other: str) -> bool:
    return item != START and (other == START or item > other)
