# SPDX-License-Identifier: Apache-2.0
"""Garbage collection: finding or removing everything in a tree that is not needed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import garbage
from image_uploader_plugins.local_export.garbage import Plan
from image_uploader_plugins.local_export.graph import Inventory
from image_uploader_plugins.local_export.layout import PLACES
from image_uploader_plugins.local_export.link_counts import LinkCounts
from image_uploader_plugins.local_export.pool import Pool
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.meter import Meter
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import DryRun, File


class Garbage(NamedTuple):
    """A path that is not needed, the reason, and the bytes that the disk gets back for it."""

    path: PurePosixPath
    reason: str
    size: int


class Collector:
    """A garbage collection or, with ``dry_run``, a list of what it would remove.

    It may run beside writers: it holds one repository's lock at a time, and
    keeps content that uploads in flight have a lease on. ``problems`` are the
    repositories in which it removes nothing, since it cannot know what they
    need. ``meter`` counts the repositories, and may stop it between two.
    """

    def __init__(self, tree: Tree, *, dry_run: bool = False, meter: Meter | None = None) -> None:
        self.problems: list[errors.UploaderError] = []
        self._tree = tree
        self._meter = meter or Meter()
        self._is_dry_run = dry_run
        self._storage = DryRun(tree.storage.root, PLACES) if dry_run else tree.storage
        self._pool = Pool(self._storage)
        self._swept: set[Digest] = set()
        self._foreseen = LinkCounts() if dry_run else None
        self._seen: set[PurePosixPath] = set()

    def collect(self, names: Iterable[RepositoryName] | None = None) -> Iterator[Garbage]:
        """Go through these repositories, or through the whole tree and its state."""
        if not self._is_dry_run:
            self._tree.claim()
        if names is None:
            yield from self.state()
        chosen = self._tree.repositories() if names is None else list(names)
        for name in self._meter.each("Looked for garbage in {} repositories", chosen):
            yield from self._repository(name)
        yield from self.pooled(whole=names is None)
        if names is None and not self._is_dry_run:
            self._tree.tidy()
        self._storage.sync()

    def state(self) -> Iterator[Garbage]:
        """Collect what is in the private state and not in the pool."""
        yield from self._leases()
        # Before the pool: links that a killed process left there keep its content.
        yield from self._staged()
        yield from self._partial()

    def look(self, repository: Repository, inventory: Inventory) -> list[Garbage]:
        """Return the garbage of a repository, for a dry run that has its inventory already.

        Its lock is held by the caller.
        """
        for error in inventory.unread():
            self.problems.append(error)
            return []
        held = self._tree.leases.live(repository.layout)
        with self._storage.holding():
            plan = garbage.plan(self._storage, repository, held, known=inventory)
        self._seen.update(file.path for _, file in plan.blobs)
        return self._found(repository, plan)

    def _leases(self) -> Iterator[Garbage]:
        for lease in self._tree.leases.expired():
            self._storage.drop(lease.path)
            yield Garbage(lease.path, "a lease that ran out", lease.size)

    def _repository(self, name: RepositoryName) -> list[Garbage]:
        try:
            with self._tree.repository_lock(name):
                return self._sweep(self._tree.repository(name, self._storage))
        except (errors.ManifestInvalid, errors.StorageError) as e:
            self.problems.append(e)
            return []

    def _sweep(self, repository: Repository) -> list[Garbage]:
        with self._changing(repository):
            held = self._tree.leases.live(repository.layout)
            with self._storage.holding():
                plan = garbage.plan(self._storage, repository, held)
            found = self._found(repository, plan)
            garbage.sweep(self._storage, repository, plan, thoroughly=True)
            if not self._is_dry_run:
                repository.remove_needless_links()
                self._tree.remove_if_empty(repository)
        return found

    def _found(self, repository: Repository, plan: Plan) -> list[Garbage]:
        found = [*_links(repository), *self._manifests(repository, plan), *self._blobs(plan)]
        self._swept.update(plan.digests)
        if plan.doubts:
            self.problems.append(errors.NeedUnknown(plan.doubts))
        return found

    def _changing(self, repository: Repository) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if self._is_dry_run else self._tree.changing(repository)

    def _manifests(self, repository: Repository, plan: Plan) -> Iterator[Garbage]:
        for digest in plan.manifests:
            reason = "neither a tag, an index nor a subject leads to it"
            size = repository.manifest_size(digest)
            yield Garbage(repository.layout.manifest(digest), reason, size)

    def _blobs(self, plan: Plan) -> Iterator[Garbage]:
        counts = self._counts()
        for _, file in plan.blobs:
            yield Garbage(file.path, "no manifest needs it", counts.remove(file))

    def pooled(
        self, *, whole: bool, files: Iterable[tuple[Digest, File]] | None = None
    ) -> Iterator[Garbage]:
        """Collect the pool folder by folder, so that nobody waits long for its lock.

        Not the ``whole`` pool, but only what the repositories had that were
        gone through. ``files`` are those of the pool, where the caller has
        looked before.
        """
        foreseen = self._foreseen.copy() if self._foreseen else None
        links = foreseen or LinkCounts()
        with self._storage.holding():
            pooled = self._pool.files() if files is None else files
            alone = [(d, file) for d, file in pooled if links.is_last(file)]
        # Most files have links, and then no repository need be looked at.
        held = self._held() if alone else ()
        wanted = (f for d, f in alone if d not in held and (whole or d in self._swept))
        for _, group in itertools.groupby(wanted, lambda file: file.path.parent):
            found, counts = [], foreseen or LinkCounts()
            with self._tree.pool_lock():
                for file in filter(None, (self._storage.file(f.path) for f in group)):
                    if counts.is_last(file):
                        reason = "no repository links to it"
                        found.append(Garbage(file.path, reason, counts.remove(file)))
                        self._storage.unlink(file.path)
            yield from found

    def _held(self) -> set[Digest]:
        """Return the blobs that repositories hold: where links are refused, links do not tell."""
        planned = {change.path for change in getattr(self._storage, "changes", ())} | self._seen
        return {digest for _, digest, path in self._tree.blobs() if path not in planned}

    def _staged(self) -> Iterator[Garbage]:
        for path in self._tree.storage.staged_by_others():
            files = [f for f in self._storage.below(path) if f.kind == "file"]
            size = sum(map(self._counts().remove, files))
            # A lock alone may be one that is just being made.
            has_folder = self._storage.status(path) is not None
            self._storage.remove_staged(path)
            if has_folder:
                yield Garbage(path, "left by a process that has ended", size)

    def _partial(self) -> Iterator[Garbage]:
        for file, reason in self._tree.partials.sweep(self._storage):
            yield Garbage(file.path, reason, self._counts().remove(file))

    def _counts(self) -> LinkCounts:
        """Return the links that a dry run has counted as removed; none in a real collection."""
        return self._foreseen or LinkCounts()


def _links(repository: Repository) -> Iterator[Garbage]:
    """Yield the needless links of a repository as one piece of garbage, as there may be many."""
    links = repository.needless_links()
    if links:
        which = "a link" if len(links) == 1 else f"one of {len(links)} links"
        reason = f"{which} of earlier versions, which no client needs"
        yield Garbage(links[0].path, reason, sum(link.size for link in links))
