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
import operator
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
)
from image_uploader_plugins.storage import Where, Writer

_ONE = "1"

Entry = tuple[str, bytes | str | None]
"""A path with the bytes of a file, the target of a symbolic link, or None: to be removed."""


@dataclasses.dataclass
class _Changes:
    """What to write, in this order, and then what to remove, first ``surplus`` and then folders.

    A client that reads meanwhile gets no item twice and never more items than
    it asked for. It misses no item that was there all the time, and every item
    that it is led to continue after has a link. So divisions change one after
    the other, the finest first, which has a link for every item. Clients are
    led to finer divisions before windows grow, and to coarser ones after others
    have shrunk. What was written last loses its surplus first.

    ``size`` is that of the whole list, in bytes.
    """

    entries: list[Entry] = dataclasses.field(default_factory=list)
    surplus: list[str] = dataclasses.field(default_factory=list)
    folders: list[str] = dataclasses.field(default_factory=list)
    size: int = 0

    def remove_later(self, paths: Iterable[str]) -> None:
        """Remove ``paths`` after all is written, before what was to be removed until now."""
        self.surplus[:0] = paths


@dataclasses.dataclass
class _Rewriting:
    """How the files of one folder change: where links lead, and the windows that change.

    ``led`` are the windows, by their last items, to which the links lead that
    are there now, by the items that these follow; ``leading`` those to which
    they shall lead. ``windows`` are to be written. Of these, ``moved`` must not
    be written while a link is there that shall lead elsewhere, and no link may
    lead there before. ``detours`` are other windows for such links to lead to
    meanwhile. ``former`` are windows to remove.

    In a coarse division, the links of items that no window follows any more are
    removed before windows move, and before clients for whom those windows are
    too long are led there. These clients find the item in a finer division.
    """

    label: str
    led: dict[str, str]
    leading: Mapping[str, str]
    windows: Mapping[str, Entry]
    moved: Collection[str]
    former: Iterable[str]
    detours: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def is_early(self, item: str) -> bool:
        """Return whether the link of an item is to be removed before windows move."""
        return item not in self.leading and self.label not in (_ONE, HEADS, GONE)


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
        self._whole = str(whole)
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

    def entries(self, items: Iterable[str], gone: Iterable[str]) -> Iterator[Entry]:
        """Yield what write() writes for these items, where ``gone`` are remembered.

        Of several entries of one path the last one counts.
        """
        return self._all(DividedList(items, gone))

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
        for name in self._below(self._layout.top / label):
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

    def _below(self, folder: PurePosixPath, start: str = "") -> list[str]:
        """Return the names of all entries that are not folders, at any depth."""
        found = []
        for name, kind in self._storage.names(folder).items():
            if kind == "folder":
                found += self._below(folder / name, f"{start}{name}/")
            else:
                found.append(start + name)
        return found

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
        if file and file.size == changes.size and file.inode != before.identity[0]:
            written = {path for path, _ in changes.entries} if ages else set()
            known = {
                item: age
                for item, age in ages.items()
                if item in divided.gone and self._layout.after(GONE, item) not in written
            }
            LISTS.put(self._key, KeptList(divided, identity(file), known))

    def _changes(self, change: Change) -> _Changes:
        old, new = change.old, change.new
        changes = _Changes()
        self._change(changes, change, _ONE)
        if _ladder(old) != _ladder(new):
            _change_ways(changes, self._finer(old), self._finer(new))
        coarser = self._lead_to_finer(changes, old, new)
        for label in new.divisions:
            if label in old.divisions and label != _ONE:
                self._change(changes, change, label)
        self._change_heads(changes, old, new)
        self._change_gone(changes, old, new)
        self._change_tails(changes, old, new)
        whole = self._render(new.items)
        changes.entries.append((self._whole, whole))
        changes.size = len(whole)
        # Clients for whom all items are too many are led elsewhere by now.
        _change_ways(changes, self._rest(old), self._rest(new))
        changes.entries += coarser
        self._remove_former(changes, old, new)
        return changes

    def _write_changes(self, changes: _Changes, *, removed: bool) -> None:
        try:
            self._storage.publish_all(changes.entries)
        except errors.StorageFull:
            # A full disk must not prevent a delete: removed files make room for changed ones.
            self._storage.sync()
            self._remove_all(changes)
            self._storage.publish_all(changes.entries)
        if removed and changes.surplus:
            # Removed items are remembered in what was just written, or in what goes now.
            self._storage.sync()
        self._remove_all(changes)

    def _remove_all(self, changes: _Changes) -> None:
        self._storage.publish_all((path, None) for path in changes.surplus)
        for folder in changes.folders:
            self._storage.remove_tree(PurePosixPath(folder))
        removed = [path for path, content in changes.entries if content is None]
        folders = {path.rpartition("/")[0] for path in (*removed, *changes.surplus)}
        for folder in sorted(folders):
            self._tidy(folder)

    def _change(self, changes: _Changes, change: Change, label: str) -> None:
        """Add the changes of one division that was there before."""
        old, new = change.old.divisions[label], change.new.divisions[label]
        before, now = change.afters(label)
        touched = {new.last(item) for item in change.items} & now.keys()
        if before == now and label != _ONE:
            changes.entries += (
                self._window(change.new, label, now[last], last) for last in sorted(touched)
            )
            return
        touched |= {last for last, _ in now.items() - before.items()}
        written = {
            last: self._window(change.new, label, now[last], last)
            for last in touched
            if last not in before or not change.is_same(last, before[last], now[last])
        }
        moved = {last for last in written if before.get(last, now[last]) != now[last]}
        led, leading = old.inverse(before), new.inverse(now)
        former = before.keys() - now.keys()
        rewriting = _Rewriting(label, led, leading, written, moved, former)
        if label == _ONE:
            # The only window that moves is the last. Before, it had the final item.
            final = old.final if old.final and old.final in change.new else NONE
            rewriting.detours = {before[last]: final for last in moved}
        self._rewrite(changes, rewriting)

    def _rewrite(self, changes: _Changes, rewriting: _Rewriting) -> None:
        """Add the changes of one folder."""
        label, led, leading = rewriting.label, rewriting.led, rewriting.leading
        windows, moved = rewriting.windows, rewriting.moved
        changes.entries += (windows[last] for last in sorted(windows.keys() - moved))
        stale = (item for item, last in led.items() if leading.get(item) != last)
        early = [item for item in stale if led[item] in moved or rewriting.is_early(item)]
        for item in sorted(early):
            self._lead_away(changes, rewriting, item)
        changes.entries += (windows[last] for last in sorted(moved))
        # Whoever is led to an item finds its link.
        for item, last in sorted(leading.items() - led.items(), reverse=True):
            changes.entries += self._link(label, item, last)
            if last in (END, NONE) and led.get(item, END) not in (END, NONE):
                changes.entries.append((self._layout.after_type_map(label, item), None))
        former: list[str] = []
        for item in sorted(led.keys() - leading.keys()):
            former += self._link_paths(label, item, led[item])
        former += (self._layout.window(label, last) for last in sorted(rewriting.former))
        changes.remove_later(former)

    def _lead_away(self, changes: _Changes, rewriting: _Rewriting, item: str) -> None:
        """Have the link of an item lead to the window that it leads to later, or meanwhile."""
        label, led = rewriting.label, rewriting.led
        last = rewriting.detours.get(item) or rewriting.leading.get(item)
        if last:
            changes.entries += self._link(label, item, last)
            led[item] = last
        else:
            changes.entries += ((path, None) for path in self._link_paths(label, item, led[item]))
            del led[item]

    def _link_paths(self, label: str, item: str, last: str) -> list[str]:
        """Return the link that leads to a window, and its type map, in the order of removal.

        Without the type map, Apache would not tell which item to continue after.
        """
        link = self._layout.after(label, item)
        return [link] if last in (END, NONE) else [link, link + layout.TYPE_MAP]

    def _change_heads(self, changes: _Changes, old: DividedList, new: DividedList) -> None:
        if old.items[: windows.FEW + 1] == new.items[: windows.FEW + 1]:
            return
        before, now = _contents(old, HEADS), _contents(new, HEADS)
        # No client may be led to a window that grows and asked for fewer items.
        grown = {last for last, items in now.items() if len(items) > len(before.get(last, items))}
        links = _links(old, HEADS), _links(new, HEADS)
        self._rewrite(changes, self._rewriting(HEADS, links, before, now, grown))

    def _change_gone(self, changes: _Changes, old: DividedList, new: DividedList) -> None:
        before, now = _contents(old, GONE), _contents(new, GONE)
        moved = {END} if END in before and before[END] != now.get(END, before[END]) else set()
        links = _links(old, GONE), _links(new, GONE)
        self._rewrite(changes, self._rewriting(GONE, links, before, now, moved))

    def _rewriting(
        self,
        label: str,
        links: tuple[dict[str, str], dict[str, str]],
        before: Mapping[str, tuple[str, ...]],
        now: Mapping[str, tuple[str, ...]],
        moved: Collection[str],
    ) -> _Rewriting:
        written = {
            last: (self._layout.window(label, last), self._render(items))
            for last, items in now.items()
            if before.get(last) != items
        }
        return _Rewriting(label, *links, written, moved, before.keys() - now.keys())

    def _change_tails(self, changes: _Changes, old: DividedList, new: DividedList) -> None:
        before, now = old.tails(), new.tails()
        for item in now:
            if item not in before or old.after(item) != new.after(item):
                changes.entries.append(self._tail(new, item))

    def _lead_to_finer(self, changes: _Changes, old: DividedList, new: DividedList) -> list[Entry]:
        """Add new divisions, and lead clients to finer ones; return the links to coarser ones."""
        finer, coarser, former = [], [], []
        for n, was, label in _rerouted(old, new):
            if label is None:
                former.append(self._layout.few(n))
            elif windows.order(label) < windows.order(was):
                finer.append((label, n))
            else:
                coarser.append(self._few(n, label))
        for division in new.divisions.values():
            if division.label not in old.divisions:
                changes.entries += self._all_of(new, division)
            changes.entries += (self._few(n, way) for way, n in finer if way == division.label)
        changes.remove_later(former)
        return coarser

    def _remove_former(self, changes: _Changes, old: DividedList, new: DividedList) -> None:
        """Have divisions removed that are no more, and windows of all after removed items."""
        for label, division in old.divisions.items():
            if label not in new.divisions:
                led, lasts = {**division.lasts}, [*division.afters]
                self._rewrite(changes, _Rewriting(label, led, {}, {}, (), lasts))
        tails = sorted(set(old.tails()).difference(new.tails()))
        changes.remove_later(self._layout.after(TAILS, item) for item in tails)
        former = sorted(_folders(old) - _folders(new))
        changes.folders += map(self._layout.division, former)

    def _write_all(self, divided: DividedList) -> None:
        entries = dict(self._all(divided))  # of several for one path the last one counts
        if self._storage.status(self._layout.top):
            self._replace_all(entries)
        else:
            # Nothing is in the way but what may be in the place of the list itself.
            self._make_way(self._whole, "file")
            self._storage.publish_all(entries.items())

    def _replace_all(self, entries: Mapping[str, bytes | str | None]) -> None:
        """Write what is not there yet, and remove everything else."""
        parents = set(map(PurePosixPath, {text.rpartition("/")[0] for text in entries}))
        folders = parents.union(*(folder.parents for folder in parents))
        for folder in sorted(filter(self._is_ours, folders)):
            self._make_way(folder, "folder")
        wanted = [entry for entry in entries.items() if not self._holds(*entry)]
        for path, content in wanted:
            self._make_way(path, "link" if isinstance(content, str) else "file")
        self._storage.publish_all(wanted)
        start = f"{self._layout.top}/"
        names = [name for name in self._below(self._layout.top) if start + name not in entries]
        if names:
            self._storage.sync()
        for name in names:
            path = start + name
            if self._layout.division_of(path) == self._layout.few_folder:
                # No client is led there, but in trees of earlier versions each number had one.
                self._storage.drop(path)
            else:
                self._storage.unlink(path)
                self._tidy(path.rpartition("/")[0])
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
            self._few(n, label) for n, _, label in _rerouted(DividedList(()), divided) if label
        )
        yield self._whole, self._render(divided.items)

    def _all_of(self, divided: DividedList, division: Division) -> Iterator[Entry]:
        for last, after in division.afters.items():
            yield self._window(divided, division.label, after, last)
        for item, last in division.lasts.items():
            yield from self._link(division.label, item, last)

    # -- one by one

    def _ways(self, divided: DividedList) -> Iterator[Entry]:
        """Yield the link from each division to the next finer one, and to the coarsest."""
        yield from self._finer(divided)
        yield from self._rest(divided)

    def _finer(self, divided: DividedList) -> Iterator[Entry]:
        for finer, label in itertools.pairwise(_ladder(divided)):
            yield self._layout.finer(label), f"../{finer}"

    def _rest(self, divided: DividedList) -> Iterator[Entry]:
        """Yield the links for clients to whom all that follows an item may be sent."""
        *_, coarsest = "", *_ladder(divided)
        if divided.tails():
            yield self._layout.finer(TAILS), f"../{coarsest}"
        if coarsest:
            yield self._layout.rest, TAILS if divided.tails() else coarsest

    def _few(self, n: int, label: str) -> Entry:
        return self._layout.few(n), f"../{label}"

    def _link(self, label: str, item: str, last: str) -> list[Entry]:
        link = self._layout.after(label, item)
        folder, _, name = link.rpartition("/")
        target = self._layout.none if last == NONE else self._layout.window(label, last)
        way = _relative(target, folder)
        if last in (END, NONE):
            return [(link, way)]
        return [(link + layout.TYPE_MAP, documents.window_type_map(name, way)), (link, way)]

    def _render(self, items: Sequence[str]) -> bytes:
        return documents.filled(self._empty, items)

    def _window(self, divided: DividedList, label: str, after: str, last: str) -> Entry:
        return self._layout.window(label, last), self._render(divided.after(after, last))

    def _tail(self, divided: DividedList, item: str) -> Entry:
        return self._layout.after(TAILS, item), self._render(divided.after(item))

    def _is_ours(self, path: PurePosixPath) -> bool:
        return path.is_relative_to(self._layout.top)

    def _make_way(self, path: Where, wanted: str) -> None:
        """Remove a folder where a file or link belongs, and anything else where a folder belongs.

        A copy of a tree that was made with links followed has folders in the
        place of links.
        """
        found = self._storage.status(path)
        if found and found.kind != wanted and "folder" in (found.kind, wanted):
            self._storage.sync()
            self._storage.remove(found)

    def _holds(self, path: str, content: bytes | str | None) -> bool:
        if isinstance(content, bytes):
            return self._storage.holds(path, content)
        return self._storage.link_target(path) == content

    def _tidy(self, folder: str) -> None:
        """Remove the folders of names that are empty, from ``folder`` up to their division."""
        division = self._layout.division_of(f"{folder}/")
        if division and folder != division:
            self._storage.remove_upward(PurePosixPath(folder), PurePosixPath(division))

    def _remove_empty(self, folder: PurePosixPath, kept: set[PurePosixPath]) -> None:
        for name, kind in self._storage.names(folder).items():
            if kind == "folder" and folder / name not in kept:
                self._remove_empty(folder / name, kept)
                self._storage.remove_empty(folder / name)


def _relative(target: str, folder: str) -> str:
    """Return the way from a folder to a target, much faster than relpath()."""
    around, _, name = target.rpartition("/")
    if around == folder:
        return name  # as of most
    to, start = target.split("/"), folder.split("/")
    shared = sum(itertools.takewhile(bool, map(operator.eq, to, start)))
    return "/".join([*[".."] * (len(start) - shared), *to[shared:]])


def _change_ways(changes: _Changes, old: Iterable[Entry], new: Iterable[Entry]) -> None:
    before, now = dict(old), dict(new)
    changes.entries += (way for way in now.items() if before.get(way[0]) != way[1])
    changes.remove_later(sorted(before.keys() - now.keys()))


def _folders(divided: DividedList) -> set[str]:
    """Return the names of the folders that a list has."""
    if not divided.items:
        return set()
    kinds = {TAILS: divided.tails(), GONE: divided.gone, HEADS: divided.items[1:2]}
    found = {label for label, items in kinds.items() if items}
    return found | divided.divisions.keys() | ({layout.FEW} if HEADS in found else set())


def _ladder(divided: DividedList) -> list[str]:
    """Return the divisions of a list, each after the next finer one."""
    return [*([GONE] if divided.gone else []), *divided.divisions] if divided.items else []


def _rerouted(old: DividedList, new: DividedList) -> Iterator[tuple[int, str | None, str | None]]:
    """Yield each round number of items whose division changes, with its old and its new one."""
    before = now = None
    led, leading = old.steps(), new.steps()
    for first, following in itertools.pairwise(sorted(led.keys() | leading.keys())):
        before, now = led.get(first, before), leading.get(first, now)
        if before != now:
            yield from ((n, before, now) for n in windows.round_numbers(first, following))


def _contents(divided: DividedList, label: str) -> dict[str, tuple[str, ...]]:
    """Return the items of each window of HEADS or GONE that is a file there."""
    extra = divided.extra_windows(label).values()
    return {window.last: window.items for window in extra if window.last != NONE}


def _links(divided: DividedList, label: str) -> dict[str, str]:
    """Return to which window each link of HEADS or GONE leads."""
    return {item: window.last for item, window in divided.extra_windows(label).items()}
