# SPDX-License-Identifier: Apache-2.0
"""The verification of a whole tree, or of some of its repositories."""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

from image_uploader_plugins import errors, processes
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.maintenance.collect import Collector, Garbage
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify.access import Access
from image_uploader_plugins.local_export.verify.contents import Contents, Unread, blame, twice
from image_uploader_plugins.local_export.verify.copies import Copies
from image_uploader_plugins.local_export.verify.finding import (
    Finding,
    Kind,
    Note,
    Remedy,
    Report,
    temporary,
)
from image_uploader_plugins.local_export.verify.inspection import Inspection
from image_uploader_plugins.local_export.verify.soundness import Soundness
from image_uploader_plugins.local_export.views.catalog import Catalog
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import DryRun, File, Snapshot, failed, is_temporary

_T = TypeVar("_T")
_Inode = tuple[int, int]
_POOLED = f"{layout.POOL}/"

Looked = Iterator[tuple[RepositoryName, int | None]]
"""Repositories, each with its manifests where it is sound."""

WORTH = 500
"""Blobs of repositories, from which on more processes save more time than they cost."""


class Verification:
    """A search for problems in these repositories or, with None, in the whole tree.

    It changes nothing and may run beside writers: content is hashed without a
    lock, everything else is looked at under the lock that its writers take, or
    twice where that cannot be taken: what is written meanwhile is no problem, and
    repositories that come meanwhile are not looked at. A second report does not
    hash again what was hashed before. ``meter`` counts the bytes that are hashed
    and the repositories that are checked, and may stop the verification. With
    more than one of ``processes``, children of fork look at large trees, while
    no other thread may work on the tree.
    """

    def __init__(
        self,
        tree: Tree,
        names: Iterable[RepositoryName] | None = None,
        meter: Meter | None = None,
        processes: int = 1,
    ) -> None:
        self.tree = tree
        self._meter = meter or Meter()
        self._processes = processes
        self.contents = Contents(tree.storage, self._meter)
        self.access = Access(tree.storage)
        self.names = None if names is None else sorted(set(names))
        self.copies = Copies(tree)
        # Repositories with something unreadable, and those with misplaced entries.
        self.unread: set[RepositoryName] = set()
        self.misplaced: set[RepositoryName] = set()
        self._notes: list[Note] = []
        self._garbage: list[Garbage] = []
        self._collector = Collector(tree, dry_run=True)
        self._failures: list[Finding] = []
        # The names of each file, and the files in the pool, when the verification began.
        self._held: collections.Counter[_Inode] = collections.Counter()
        self._pooled: dict[Digest, _Inode] = {}
        # Those in the pool, as they were looked at beside repositories.
        self._pool_files: Sequence[tuple[Digest, File]] | None = None
        self._folders: dict[PurePosixPath, Sequence[Finding]] = {}
        # For one repository after the other, since to make one takes long.
        self._quick = Snapshot(tree.storage.root, layout.PLACES)

    def report(self) -> Report:
        """Return the findings; raise StorageError where the tree cannot be read at all."""
        report = Report()
        self.copies = Copies(self.tree)
        self.unread, self.misplaced, self._notes, self._failures = set(), set(), [], []
        self._collector = Collector(self.tree, dry_run=True)
        whole = self.names is None
        names = twice(self.repositories)
        self._garbage, self._folders = [], {}
        pooled = self._looked(self._list_pool) if whole else []
        self._pooled = {digest: file.inode for digest, file in pooled}
        self._pool_files = None
        self._held.clear()
        if pooled:
            # Blobs that the pool lacks are few, and read while repositories are looked at.
            self.contents.read(pooled)
        else:
            self._read_held(names)
        found = set(self._findings(names, report))
        garbage = self._garbage + self._unlinked(whole=whole)
        found.update(self._failures)
        # Other problems of garbage do not matter.
        paths = {g.path for g in garbage}
        found = {finding for finding in found if not _is_below(finding.path, paths)}
        found |= set(self._told_once(garbage))
        report.findings = tuple(sorted(found))
        report.notes = tuple(sorted(set(self._notes)))
        report.bytes_read = self.contents.bytes_read
        return report

    def _unlinked(self, *, whole: bool) -> list[Garbage]:
        """Return the garbage in the pool, without what others are just about to delete."""
        look = functools.partial(self._collector.pooled, whole=whole)
        found = self._looked(functools.partial(look, files=self._pool_files))
        if not found:
            return []
        for name in {*self.tree.repositories(), *self._marked()}:
            with self.tree.repository_lock(name):
                pass  # a delete removes the links of a repository before the pool's
        still = {g.path for g in self._looked(look)}
        return [g for g in found if g.path in still]

    def _told_once(self, garbage: list[Garbage]) -> Iterator[Finding]:
        """Yield garbage as findings; the rest of one unfinished upload is one finding."""
        if not garbage:
            return
        places = [layout.repository(name) for name in self.repositories()]
        folders = {folder: place for place in places for folder in (place.blobs, place.leases)}
        left: dict[layout.RepositoryLayout, list[Garbage]] = collections.defaultdict(list)
        pooled = {g for g in garbage if layout.pool_digest(g.path)}
        for found in garbage:
            if found.path.parent in folders:
                left[folders[found.path.parent]].append(found)
        told = {layout.blob_digest(g.path.name) for parts in left.values() for g in parts}
        gone = {g for g in pooled if layout.pool_digest(g.path) in told}
        for place, parts in left.items():
            blobs = [g for g in parts if g.path.parent == place.blobs]
            if len(blobs) > 1:
                freed = sum(g.size for g in gone if layout.pool_digest(g.path) in _digests(blobs))
                size = sum(g.size for g in blobs) + freed
                problem = (
                    f"{len(blobs)} blobs ({size} bytes) of no image, as of an upload cut short"
                )
                yield _unneeded(place.blobs, problem, size)
                gone.update(parts)
            else:
                gone -= {g for g in gone if layout.pool_digest(g.path) in _digests(blobs)}
        yield from (_unneeded(g.path, g.reason, g.size) for g in garbage if g not in gone)

    def repositories(self) -> Sequence[RepositoryName]:
        """Return the repositories to look at, with those of which only a mark is left."""
        if self.names is not None:
            return self.names
        return sorted({*self.tree.repositories(), *self._marked()})

    def _marked(self) -> Iterator[RepositoryName]:
        for name in self.tree.storage.names(layout.UNFINISHED):
            try:
                text = self.tree.storage.read(layout.UNFINISHED / name, limit=1024)
                yield RepositoryName(text.decode("ascii", "replace"))
            except (errors.InvalidReference, errors.StorageError):
                continue

    def _list_pool(self) -> list[tuple[Digest, File]]:
        with self.tree.storage.holding():
            return list(self.tree.pool.files())

    def _read_held(self, names: Iterable[RepositoryName]) -> None:
        """Hash the blobs of repositories, and count the names of each."""
        held = self._looked(functools.partial(self._held_files, names))
        self._held = _names_of(held)
        self.contents.read(held)

    def _held_files(self, names: Iterable[RepositoryName]) -> list[tuple[Digest, File]]:
        with self.tree.storage.holding():
            return list(self._repository_files(names))

    def _repository_files(self, names: Iterable[RepositoryName]) -> Iterator[tuple[Digest, File]]:
        for name in names:
            try:
                yield from self.tree.repository(name).blob_files()
            except errors.StorageError as e:
                if failed(e):
                    raise

    def _findings(self, names: Sequence[RepositoryName], report: Report) -> Iterator[Finding]:
        with self._looked_at(names) as looked:
            yield from self._shared(names, report)
            yield from self._repositories(names, looked, report)

    def _shared(self, names: Sequence[RepositoryName], report: Report) -> Iterator[Finding]:
        """Yield findings of the parts that all repositories share."""
        if not self._held:
            self._read_held(names)
        yield from self._looked(self._served)
        if self.names is None:
            self._garbage += self._looked(self._collector.state)
            yield from self._looked(functools.partial(self._catalog, names))
            state = self._looked(self._all_state)
            pooled = self._pool_files = list(self.tree.pool.among(state))
            yield from self._looked(functools.partial(self._pool, report, pooled))
            yield from self._looked(functools.partial(self._state, state))

    def _repositories(
        self, names: Sequence[RepositoryName], looked: Looked, report: Report
    ) -> Iterator[Finding]:
        sound: dict[RepositoryName, int] = {}
        checked = _sound_first(looked)
        for name, manifests in self._meter.each_of("Checked {} repositories", checked, len(names)):
            if manifests is None:
                yield from self._repository(name, report)
            else:
                sound[name] = manifests
        for name in self._unlisted(sound):
            del sound[name]
            yield from self._repository(name, report)
        report.repositories += len(sound)
        report.manifests += sum(sound.values())
        parents = {name.value.rpartition("/")[0] for name in sound}
        around = {folder for text in parents for folder in _and_above(layout.V2 / text)}
        yield from self._looked(functools.partial(self._modes, sorted(around)))

    def _looked(self, look: Callable[[], Iterable[_T]]) -> list[_T]:
        """Return the results of a look; none where it fails, which becomes a finding."""
        try:
            return twice(lambda: list(look()))
        except errors.StorageError as e:
            self._failures.append(self._unread(e))
            return []

    def _unread(self, error: errors.StorageError) -> Finding:
        path, problem = blame(self.tree.storage.root, error)
        return Finding(path, problem, Kind.UNREAD, Remedy.LOOK)

    def _looked_at(
        self, names: Sequence[RepositoryName]
    ) -> contextlib.AbstractContextManager[Looked]:
        look = self._sound_manifests
        if self._processes > 1 and max(len(self._pooled), len(self._held)) >= WORTH:
            return processes.numbers(look, names, self._processes, self._meter.check)
        return contextlib.nullcontext((name, look(name)) for name in names)

    def _sound_manifests(self, name: RepositoryName) -> int | None:
        """Return the number of a repository's manifests if nothing is wrong with it, else None.

        The catalog, and the folders that its own is in, are not looked at.
        """
        snapshot = self._quick
        snapshot.forget([layout.repository(name).blobs])
        try:
            with self.tree.storage.holding(), self.tree.repository_lock(name), snapshot.holding():
                repository = self.tree.repository(name, snapshot)
                repository.remember_manifests()
                if self.tree.storage.status(repository.layout.unfinished):
                    return None
                soundness = Soundness(
                    repository, snapshot, self.contents, self.access, self._is_pooled
                )
                return soundness.manifests()
        except errors.StorageError:
            return None

    def _is_pooled(self, digest: Digest, file: File) -> bool:
        if self._pooled.get(digest) == file.inode or self.tree.storage.is_hidden:
            return True
        pooled = self.tree.pool.file(digest)
        return pooled is not None and pooled.inode == file.inode

    def _unlisted(self, sound: Iterable[RepositoryName]) -> list[RepositoryName]:
        """Return those of the repositories that the catalog may lack."""
        names = list(sound)
        try:
            with self.tree.catalog_lock():
                listed = self.tree.catalog.listed()
        except errors.StorageError:
            return names
        return [] if listed is None else [name for name in names if name.value not in listed]

    def _repository(self, name: RepositoryName, report: Report) -> list[Finding]:
        top = layout.repository(name).top
        try:
            with self.tree.repository_lock(name) as lock:
                inspection, found = self._inspected(name)
                if found and not lock.is_held:
                    inspection, again = self._inspected(name)
                    found = [finding for finding in again if finding in found]
                with self.tree.storage.holding():
                    repository = self.tree.repository(name)
                    self._garbage += self._collector.look(repository, inspection.inventory)
        except errors.StorageError as e:
            self.unread.add(name)
            strange = Finding(top, str(e), Kind.STRANGER, Remedy.LOOK)
            return [self._unread(e) if failed(e) else strange]
        self._notes += inspection.notes()
        self.unread |= {name} if inspection.is_unread else set()
        self.misplaced |= {name} if inspection.is_misplaced else set()
        report.repositories += 1
        report.manifests += len(inspection.inventory.readable)
        found += self._modes(_and_above(top))
        return found

    def _modes(self, folders: Iterable[PurePosixPath]) -> Iterator[Finding]:
        """Yield what is wrong with the modes and owners of folders, each looked at once."""
        with self.tree.storage.holding():
            for folder in folders:
                if folder not in self._folders:
                    status = self.tree.storage.status(folder)
                    self._folders[folder] = self.access.findings(status) if status else ()
                yield from self._folders[folder]

    def _inspected(self, name: RepositoryName) -> tuple[Inspection, list[Finding]]:
        unread = [layout.repository(name).blobs]
        snapshot = Snapshot(self.tree.storage.root, layout.PLACES, unread)
        with self.tree.storage.holding(), snapshot.holding():
            inspection = Inspection(
                self.tree, name, snapshot, self.contents, self.copies, self.access
            )
            return inspection, list(inspection.findings())

    # -- the parts that all repositories share

    def _served(self) -> Iterator[Finding]:
        dry_run = DryRun(self.tree.storage.root, layout.PLACES)
        self.tree.write_foundation(dry_run)
        for change in dry_run.changes:
            yield _outdated(change.path, change.reason)
        yield from self.access.root()
        for path in (layout.PAGE, *map(layout.V2.joinpath, self.tree.storage.names(layout.V2))):
            file = self.tree.storage.file(path)
            if file and is_temporary(path.name):
                yield temporary(file)
            elif file:
                yield from self.access.findings(file)

    def _catalog(self, names: Iterable[RepositoryName]) -> Iterator[Finding]:
        with self.tree.catalog_lock():
            listed = self.tree.catalog.listed()
            yield from self._catalog_windows(listed)
        if listed is None:
            yield _outdated(layout.CATALOG, "is not what it should be")
        for text in sorted((listed or set()) - {name.value for name in names}):
            if not self._exists(text):
                yield _outdated(layout.CATALOG, f"lists {text!r}, which is not there")

    def _catalog_windows(self, listed: set[str] | None) -> Iterator[Finding]:
        snapshot = Snapshot(self.tree.storage.root, layout.PLACES)
        if listed is not None:
            Catalog(snapshot).settle(listed)
        for change in snapshot.changes:
            yield _outdated(change.path, change.reason)
        top = snapshot.status(layout.CATALOG_WINDOWS)
        for file in (*([top] if top else []), *snapshot.below(layout.CATALOG_WINDOWS)):
            yield from self.access.findings(file)
        if self.tree.storage.file(layout.UNFINISHED_CATALOG):
            problem = "an operation on the catalog was cut short"
            yield Finding(layout.UNFINISHED_CATALOG, problem, Kind.UNFINISHED, Remedy.REPAIR)

    def _exists(self, text: str) -> bool:
        """Return whether a name in the catalog is right; look under the locks of its writers."""
        try:
            name = RepositoryName(text)
            with self.tree.repository_lock(name), self.tree.catalog_lock():
                listed = self.tree.catalog.listed() or set()
                return text not in listed or bool(self.tree.repository(name).manifests())
        except (errors.InvalidReference, errors.StorageError):
            return False

    def _pool(self, report: Report, pooled: Sequence[tuple[Digest, File]]) -> Iterator[Finding]:
        report.blobs = len(self._held if self.tree.storage.is_hidden else pooled)
        for digest, file in pooled:
            problem = self.contents.problem(digest, file)
            if isinstance(problem, Unread):
                yield Finding(file.path, str(problem), Kind.UNREAD, Remedy.LOOK)
            elif problem:
                remedy = self.contents.remedy(digest)
                yield Finding(file.path, str(problem), Kind.CONTENT, remedy)
        suspects = _linked_outside(pooled, self._held)
        if suspects:
            with self.tree.pool_lock():  # so that no link is made meanwhile
                held = _names_of(self._repository_files(self.repositories()))
                suspects &= _linked_outside(self.tree.pool.files(), held)
        for path in suspects:
            outside = "has a link outside the tree; what is written to that link is written here"
            yield Finding(path, outside, Kind.LINKED, Remedy.LOOK)

    # -- the state that is not served

    def _state(self, state: Iterable[File]) -> Iterator[Finding]:
        storage = self.tree.storage
        for name, kind in storage.names(layout.STATE).items():
            path = layout.STATE / name
            if kind != "folder" or path not in layout.STATE_FOLDERS:
                yield _not_state(path)
        for file in state:
            if any(self.access.findings(file)):
                # Another process may just have made it.
                now = storage.status(file.path)
                yield from self.access.findings(now) if now else ()
            is_pooled = file.place.startswith(_POOLED) and file.kind != "folder"
            if is_pooled and not layout.pool_digest(file.place):
                yield _not_state(file.path)

    def _all_state(self) -> list[File]:
        """Return the private folder, and everything in it."""
        with self.tree.storage.holding():
            found = self.tree.storage.status(layout.STATE)
            return [*([found] if found else []), *self.tree.storage.below(layout.STATE)]


def _sound_first(looked: Looked) -> Looked:
    """Yield the repositories that are sound, with their manifests, and then the others."""
    doubtful = []
    for name, manifests in looked:
        if manifests is None:
            doubtful.append(name)
        else:
            yield name, manifests
    yield from ((name, None) for name in sorted(doubtful))


def _and_above(folder: PurePosixPath) -> list[PurePosixPath]:
    """Return a folder and those that it is in, but for the root."""
    return [folder, *folder.parents[:-1]]


def _unneeded(path: PurePosixPath, reason: str, size: int) -> Finding:
    return Finding(path, reason, Kind.UNNEEDED, Remedy.REPAIR, bytes_freed=size)


def _outdated(path: PurePosixPath, reason: str) -> Finding:
    return Finding(path, reason, Kind.VIEW, Remedy.REPAIR)


def _not_state(path: PurePosixPath) -> Finding:
    return Finding(path, "is no part of a tree", Kind.STATE, Remedy.LOOK)


def _names_of(held: Iterable[tuple[Digest, File]]) -> collections.Counter[_Inode]:
    """Return how many names each file has in the repositories."""
    return collections.Counter(file.inode for _, file in held)


def _linked_outside(
    pooled: Iterable[tuple[Digest, File]], held: Mapping[_Inode, int]
) -> set[PurePosixPath]:
    """Return the files of the pool with more names than the tree has.

    A name that is removed after it was counted can only hide a link outside,
    not feign one; no name may be made meanwhile.
    """
    return {file.path for _, file in pooled if file.links > 1 + held.get(file.inode, 0)}


def _digests(garbage: Iterable[Garbage]) -> set[Digest | None]:
    return {layout.blob_digest(g.path.name) for g in garbage}


def _is_below(path: PurePosixPath, garbage: Collection[PurePosixPath]) -> bool:
    return any(parent in garbage for parent in (path, *path.parents))
