# SPDX-License-Identifier: Apache-2.0
"""A tree: its parts, and all locks on it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Self

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import fetches, layout, needs, options, partials
from image_uploader_plugins.local_export.fetches import Fetch
from image_uploader_plugins.local_export.leases import Leases
from image_uploader_plugins.local_export.partials import Partials
from image_uploader_plugins.local_export.pool import Pool
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.under_way import UnderWay
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.local_export.views.catalog import Catalog
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import (
    File,
    Lock,
    Looking,
    Rounds,
    Storage,
    Writer,
    failed,
    transaction,
)

LOG = logging.getLogger(__name__)

_POOL = "pool"
_CATALOG = "catalog"
_REPAIR = "if it belongs to another user, run verify --repair as root"
_ONE_WRITER = "if just one machine writes to it at a time, set one_writer = true in [local_export]"


def _lock_of(name: RepositoryName) -> str:
    return f"repository {name}"


class Tree:
    """The tree at ``root``.

    Locks are taken in this order: one fetch (while its content streams; nobody
    waits for a fetch that makes no progress), one repository, the pool, the
    catalog; never two repositories. A tree to ``look`` at takes the locks that
    it can, makes nothing and needs no rights but to read what is served.
    """

    def __init__(
        self,
        root: str | Path = options.ROOT,
        default_architecture: str = options.DEFAULT_ARCHITECTURE,
        lease_timeout: int = options.LEASE_TIMEOUT,
        *,
        one_writer: bool = options.ONE_WRITER,
        partial_limit: int = options.PARTIAL_LIMIT,
        partial_days: int = options.PARTIAL_DAYS,
        title: str = options.TITLE,
        look: bool = False,
    ) -> None:
        if not Path(root).is_absolute():
            raise errors.ConfigurationError(f"[local_export] root must be absolute: {str(root)!r}")
        if "\0" in str(root):
            raise errors.ConfigurationError(f"[local_export] root has a null byte: {str(root)!r}")
        kind = Looking if look else Storage
        self.storage = kind(Path(root), layout.PLACES, owned=True, remedy=_REPAIR)
        self.pool = Pool(self.storage)
        self.catalog = Catalog(self.storage)
        self.under_way = UnderWay()
        self._catalog_rounds = Rounds(self._change_catalog, self.under_way.wait)
        self.leases = Leases(self.storage, lease_timeout)
        self.partials = Partials(self.storage, self.pool, partial_limit, partial_days)
        self._architecture = default_architecture
        self._one_writer = one_writer
        self._title = title
        self._is_claimed = False

    @classmethod
    def existing(
        cls, conf: Any, option: str = f"[{options.GROUP}] root", *, look: bool = False
    ) -> Self:
        """Return the tree that an oslo.config ConfigOpts names, maybe to ``look``; create nothing.

        Raises ConfigurationError where there is none; it names the ``option``
        that the directory comes from.
        """
        values = options.values(conf)
        tree = cls(
            values.root,
            values.default_architecture,
            values.lease_timeout,
            one_writer=values.one_writer,
            partial_limit=values.partial_limit,
            partial_days=values.partial_days,
            title=values.title,
            look=look,
        )
        if not tree.storage.names(layout.V2):
            raise errors.ConfigurationError(f"no registry in {values.root} ({option})")
        return tree

    @property
    def state(self) -> Path:
        """Return the path of the private state, which need not be there."""
        return self.storage.root / self.storage.places.state

    @property
    def can_lease(self) -> bool:
        """Return whether leases can be taken, which keep content from being deleted."""
        return not isinstance(self.storage, Looking)

    def claim(self) -> None:
        """Raise StorageDenied where this process must not write to the tree."""
        if not self._is_claimed:
            self.storage.claim(layout.V2, one_writer=self._one_writer, remedy=_ONE_WRITER)
        self._is_claimed = True

    def lay_foundation(self) -> None:
        """Write the files that a registry serves before it has any image."""
        self.claim()
        with self.catalog_lock():
            self.write_foundation(self.storage)
            self.catalog.ensure()
            self.storage.settle(layout.V2)
            self.storage.sync()

    def write_foundation(self, storage: Storage) -> None:
        """Write the files that every tree has, whatever images it holds."""
        storage.write(layout.API_ROOT, documents.API_ROOT)
        storage.write(layout.API_HTACCESS, documents.API_HTACCESS)
        storage.write(layout.NO_REFERRERS, documents.index([]))
        storage.write(layout.PAGE, documents.page(self._title))

    def repository(self, name: RepositoryName, storage: Writer | None = None) -> Repository:
        """Return a repository of the tree, maybe on the ``storage`` of a dry run or transaction."""
        return Repository(storage or self.storage, name, self._architecture)

    def repositories(self) -> list[RepositoryName]:
        """Return the repositories on disk of which any file exists, sorted."""
        with self.storage.holding():
            return sorted(self.catalog.walk())

    def blobs(
        self, names: Iterable[RepositoryName] | None = None
    ) -> Iterator[tuple[Repository, Digest, PurePosixPath]]:
        """Yield the blobs of these repositories (default: all), where nothing is in the way.

        Raises StorageError where they cannot be read.
        """
        for name in self.repositories() if names is None else names:
            repository = self.repository(name)
            try:
                found = sorted(repository.blobs())
            except errors.StorageError as e:
                if failed(e):
                    raise
                continue
            for digest, path in found:
                yield repository, digest, path

    def known(self, name: RepositoryName) -> RepositoryName:
        """Return the name itself; raise ImageUnknown where the tree has no such repository."""
        if name not in self.repositories():
            raise errors.ImageUnknown(f"no such repository: {name}", name)
        return name

    def adopt(self, digest: Digest, repository: Repository, size: int | None = None) -> bool:
        """Bring a blob that other tools wrote into the pool; hash it without a lock.

        Returns False if there is nothing to bring, or if it is not intact.
        """
        staged = self.pool.adopt(digest, repository, size)
        if not staged:
            return False
        with self.storage.discarding(staged), self.pool_lock():
            replaced = self.pool.add(digest, staged)
        self.heal(digest, replaced)
        return True

    def heal(self, digest: Digest, replaced: File | None) -> None:
        """Give every repository that shares a damaged file the pool's new one.

        ``replaced`` is the file that was replaced in the pool, None if there
        was none. Called without locks; an upload that mounts the blob meanwhile
        gets the new file. A repository is left as it is where something is in
        the way.
        """
        for name in self.repositories() if replaced else ():
            repository = self.repository(name)
            try:
                if replaced and self.pool.is_healed_by(replaced, digest, repository):
                    self._link_again(digest, repository)
            except errors.StorageError as e:
                LOG.warning("%s: whether its %s is damaged is not known: %s", name, digest, e)

    def _link_again(self, digest: Digest, repository: Repository) -> None:
        with self.repository_lock(repository.name), self.pool_lock():
            if repository.blob(digest):  # else deleted meanwhile, and must not come back
                self.pool.link(digest, repository)
        self.storage.sync()

    def remove_if_empty(self, repository: Repository) -> None:
        """Remove the rest of a repository without manifests; called with its lock held."""
        if not repository.manifests():
            repository.remove_folders()
            self.list_in_catalog(repository.name, listed=False)
            # A process that waits for the lock, or takes a lease, makes them anew.
            self.storage.remove_empty(repository.layout.leases)
            self.storage.forget_lock(_lock_of(repository.name))

    def close(self) -> None:
        """Give up the leases of this process, and leave no temporary file."""
        try:
            self.leases.drop_all()
        finally:
            self.storage.close()

    # -- locks

    def fetch_lock(
        self, digest: Digest, size: int | None = None
    ) -> contextlib.AbstractContextManager[Fetch]:
        """Return the lock for a fetch; a second fetch may begin beside one that is stuck.

        Of content that is known to be small nobody waits for the fetch of
        another: to fetch it again is as fast.
        """
        if size is not None and size < partials.SMALLEST:
            return contextlib.nullcontext(Fetch(Lock()))
        return fetches.turn(self.storage, digest)

    def repository_lock(self, name: RepositoryName) -> contextlib.AbstractContextManager[Lock]:
        """Return the lock on a repository, among threads and processes."""
        return self.storage.lock(_lock_of(name))

    def pool_lock(self) -> contextlib.AbstractContextManager[Lock]:
        """Return the lock on the pool, among threads and processes."""
        return self.storage.lock(_POOL)

    def catalog_lock(self) -> contextlib.AbstractContextManager[Lock]:
        """Return the lock on the catalog, among threads and processes."""
        return self.storage.lock(_CATALOG)

    def tidy(self) -> None:
        """Remove lock files and lease folders that belong to nothing that is there."""
        names = self.repositories()
        self.storage.remove_unused_locks([_POOL, _CATALOG, *map(_lock_of, names)])
        layouts = [self.repository(name).layout for name in names]
        self.leases.tidy(layouts)
        needs.tidy(self.storage, layouts)

    @contextlib.contextmanager
    def changing(self, repository: Repository) -> Iterator[bool]:
        """Mark a repository as being changed; called with its lock held.

        The mark stays when the change fails or is killed, and then the next
        one first puts every view in order.  Yields whether that was so.
        """
        self.claim()
        mark = repository.layout.unfinished
        resumed = self._resume(repository)
        if not resumed:
            self.storage.mark(mark, repository.name.value.encode())
            self.storage.sync()
        with self.storage.holding():
            yield resumed
            # Removed names must not come back after the mark is gone.
            self.storage.sync()
            self.storage.drop(mark)

    @contextlib.contextmanager
    def putting(self, name: RepositoryName) -> Iterator[Repository]:
        """Yield a repository whose changes are published together when the block ends.

        Called with its lock held. The mark of changing() is there meanwhile,
        and until the repository's name is in the catalog.
        """
        self.claim()
        mark = layout.repository(name).unfinished
        self._resume(self.repository(name))
        with self.under_way.one(), transaction(self.storage) as changes:
            # It is durable when the transaction has flushed what it stages.
            self.storage.mark(mark, name.value.encode())
            yield self.repository(name, changes)
        if not self.list_in_catalog(name, listed=True):
            self.storage.sync()
        # The kernel may be about to write the mark, and its removal waits for that.
        with self.storage.alone.waiting():
            self.storage.drop(mark)

    def _resume(self, repository: Repository) -> bool:
        """Put a repository in order if a change of it failed or was killed; return whether."""
        if self.storage.file(repository.layout.unfinished) is None:
            return False
        self.storage.settle(layout.UNFINISHED)
        repository.settle()
        self.storage.sync()
        repository.refresh(thoroughly=True)
        return True

    def list_in_catalog(self, name: RepositoryName, *, listed: bool) -> bool:
        """Have the catalog name a repository, or not; return whether that is a change.

        Then all names that were changed before are durable.
        """
        if self.catalog.is_right(name, listed=listed):
            return False
        # Writing it costs the same for one name and for those of all threads.
        with self.storage.alone.waiting():
            self._catalog_rounds.join([(name, listed)])
        return True

    def _change_catalog(self, wanted: Sequence[tuple[RepositoryName, bool]]) -> None:
        with self.storage.alone.block(), self.catalog_lock():
            self.catalog.change(
                added=[name for name, listed in wanted if listed],
                removed=[name for name, listed in wanted if not listed],
            )
