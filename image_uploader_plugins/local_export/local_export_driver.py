# SPDX-License-Identifier: Apache-2.0
"""The driver ``local-export``: the verbs of the contract on a tree."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.driver import (
    NO_SOURCES,
    Census,
    Deletion,
    Footprint,
    Room,
    UploaderDriver,
)
from image_uploader_plugins.local_export import garbage, graph, layout, options
from image_uploader_plugins.local_export.pool import fits
from image_uploader_plugins.local_export.reports.census import Counting
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.storage import DryRun, File, Staged

# What each new one takes, as counted on ext4 in blocks of 4 KiB.
_REPOSITORY = Footprint(52_000, 14)
_TAG = Footprint(28_000, 11)
_MANIFEST = Footprint(18_000, 4)


class LocalExportDriver(UploaderDriver):
    """A driver that writes images into a tree, which any web server can serve as a registry."""

    def __init__(
        self,
        root: str | Path = options.ROOT,
        default_architecture: str = options.DEFAULT_ARCHITECTURE,
        lease_timeout: int = options.LEASE_TIMEOUT,
        one_writer: bool = options.ONE_WRITER,
        partial_limit: int = options.PARTIAL_LIMIT,
        partial_days: int = options.PARTIAL_DAYS,
        *,
        title: str = options.TITLE,
    ) -> None:
        self._arguments = (
            root,
            default_architecture,
            lease_timeout,
            one_writer,
            partial_limit,
            partial_days,
        )
        self._title = title
        self._tree = Tree(
            root,
            default_architecture,
            lease_timeout,
            one_writer=one_writer,
            partial_limit=partial_limit,
            partial_days=partial_days,
            title=title,
        )
        self._storage = self._tree.storage
        self._pool = self._tree.pool
        self._leases = self._tree.leases
        self._storage.make_root()
        self._tree.lay_foundation()

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(type(self), title=self._title), self._arguments

    @classmethod
    def list_opts(cls) -> list[tuple[str | None, list[Any]]]:
        return options.list_opts()

    @classmethod
    def from_conf(cls, conf: Any) -> Self:
        values = options.values(conf)
        return cls(
            values.root,
            values.default_architecture,
            values.lease_timeout,
            values.one_writer,
            values.partial_limit,
            values.partial_days,
            title=values.title,
        )

    # -- the verbs

    def mount_layers(
        self,
        target: RepositoryName,
        layers: Iterable[Descriptor],
        sources: Mapping[Digest, RepositoryName] = NO_SOURCES,
        *,
        check: bool = False,
    ) -> frozenset[Digest]:
        wanted = {layer.digest: layer.size for layer in layers}
        repository = self._tree.repository(target)
        if check:
            for digest in wanted:
                self._pool.check(digest, repository)
        with self._at_work():
            mounted, there = self._mount_all(repository, wanted)
            strange = [
                (digest, origin)
                for digest in wanted
                if digest not in mounted
                for origin in map(
                    self._tree.repository, sorted({target, sources.get(digest, target)})
                )
                if (digest.value in there if origin.name == target else origin.blob(digest))
            ]
        adopted = {
            digest: wanted[digest]
            for digest, origin in strange
            if self._tree.adopt(digest, origin, wanted[digest])
        }
        if adopted:
            mounted |= self._mount_all(repository, adopted)[0]
        return mounted

    def _mount_all(
        self, repository: Repository, wanted: Mapping[Digest, int | None]
    ) -> tuple[frozenset[Digest], dict[str, File]]:
        """Mount those of the blobs, each with its size if that is known, that the pool has.

        Returns these, and what the repository had of all before, by digests as
        texts.
        """
        with (
            self._at_work(),
            self._tree.repository_lock(repository.name),
            self._tree.pool_lock(),
            self._tree.under_way.one(),
        ):
            found = {d: self._pool.held_to_link(d, size) for d, size in wanted.items()}
            pooled = {digest: file for digest, file in found.items() if file}
            if pooled:
                self._leases.take(repository.layout, pooled, soon=wanted)
            there = repository.blobs_among([digest.value for digest in wanted])
            mounted = [
                digest
                for digest, file in pooled.items()
                if self._pool.link(digest, repository, looked=(file, there.get(digest.value)))
            ]
        self._storage.sync()
        return frozenset(mounted), there

    def upload_layer(
        self,
        target: RepositoryName,
        chunks: Iterable[bytes],
        *,
        expected: Digest | None = None,
        size: int | None = None,
        media_type: str | None = None,
    ) -> Descriptor:
        media_type = media_type or media_types.OCTET_STREAM
        if expected is None:
            stream = VerifiedStream(chunks, size=size)
            with self._tree.under_way.one():
                staged = self._storage.stage(stream)
            return self._show(target, staged, stream.digest, media_type)
        # A second upload of the same large content waits here, and then finds it.
        with self._tree.fetch_lock(expected, size) as fetch:
            if self._has_come(target, expected, size):
                return self._describe(target, expected, media_type)
            with self._tree.under_way.one():
                staged = self._tree.partials.stage(fetch, chunks, expected, size)
            return self._show(target, staged, expected, media_type)

    def put_manifest(
        self,
        target: RepositoryName,
        content: bytes,
        media_type: str,
        *,
        tag: Tag | None = None,
        config: bytes | None = None,
        expected: Digest | None = None,
    ) -> Descriptor:
        manifest = Manifest.parse(content, media_type)
        digest = expected or manifest.digest
        digest.verify(content)
        if tag:
            layout.check_tag(tag)
        repository = self._tree.repository(target)
        with (
            self._staged_config(manifest, config) as staged,
            self._at_work(),
            self._tree.repository_lock(target),
        ):
            self._check_blobs(repository, manifest, staged is not None)
            repository.referrers.check(manifest, digest)
            with self._tree.putting(target) as changes:
                replaced = self._publish_config(repository, manifest.config, staged)
                changes.put(manifest, digest, tag)
            self._leases.drop(
                repository.layout, (blob.digest for blob in graph.all_blobs(manifest))
            )
        if manifest.config:
            self._tree.heal(manifest.config.digest, replaced)
        return Descriptor(media_type, digest, len(content))

    def leave_out(
        self, target: RepositoryName, index: Digest, children: Collection[Digest]
    ) -> None:
        repository = self._tree.repository(target)
        with self._at_work(), self._tree.repository_lock(target):
            if not repository.has_manifest(index):
                return
            if repository.left_out(index).difference(children):
                with self._tree.putting(target) as changes:
                    changes.rewrite_tags(index)
                    changes.write_left_out(index, children)
            else:
                repository.write_left_out(index, children)
        self._storage.sync()

    def delete(self, target: ImageRef) -> Deletion:
        found, deletion = self._delete(target.repository, [target.reference])
        if not found:
            raise errors.ImageUnknown(f"no such image: {target}", target)
        return deletion

    def delete_all(
        self,
        target: RepositoryName,
        references: Collection[Tag | Digest],
        narrow: Callable[[Collection[Tag | Digest]], Collection[Tag | Digest]] = list,
    ) -> Deletion:
        """Delete several images of one repository in one pass.

        ``narrow`` is called under the repository's lock.
        """
        _, deletion = self._delete(target, references, narrow)
        return deletion

    def resolve(self, target: ImageRef) -> Digest | None:
        repository = self._tree.repository(target.repository)
        reference = target.reference
        with self._at_work():
            digest = repository.manifest_of(reference) if isinstance(reference, Tag) else reference
            return digest if digest and repository.has_manifest(digest) else None

    def present(self, target: RepositoryName, layers: Iterable[Descriptor]) -> frozenset[Digest]:
        repository, wanted = self._tree.repository(target), list(layers)
        with self._at_work():
            found = repository.blobs_among([layer.digest.value for layer in wanted])
        return frozenset(x.digest for x in wanted if fits(found.get(x.digest.value), x.size))

    def held_manifest(
        self, target: RepositoryName, digest: Digest, *, tag: Tag | None = None
    ) -> Manifest | None:
        repository = self._tree.repository(target)
        try:
            with self._at_work():
                manifest = repository.read_manifest(digest)
                is_held = self._is_whole(repository, manifest) and self._is_named(
                    target, manifest, digest, tag
                )
        except errors.UploaderError:  # what is broken is about to be mended
            return None
        return manifest if is_held else None

    def mountable(self, layers: Iterable[Descriptor]) -> frozenset[Digest]:
        with self._at_work():
            return frozenset(
                layer.digest for layer in layers if self._pool.holds(layer.digest, layer.size)
            )

    def tags(self, target: RepositoryName) -> frozenset[Tag]:
        return frozenset(self._tree.repository(target).tags())

    def room(self) -> Room:
        free, files = self._storage.room()
        return Room(free, files, _REPOSITORY, _TAG, _MANIFEST)

    def left_out(self, target: RepositoryName, index: Digest) -> frozenset[Digest]:
        return self._tree.repository(target).left_out(index)

    def census(self) -> Census:
        return Counting(self._tree).census()

    def close(self) -> None:
        self._tree.close()

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Run a block of short system calls: one thread at a time, which holds folders open."""
        with self._storage.alone.block(), self._storage.holding():
            yield

    # -- blobs

    def _has_come(self, target: RepositoryName, digest: Digest, size: int | None) -> bool:
        """Mount a blob that another upload has brought meanwhile; return whether there is one."""
        with self._at_work():
            present = self._tree.repository(target).blob(digest)
            if not present and not self._pool.holds(digest, size):
                return False
        layer = Descriptor(media_types.OCTET_STREAM, digest, size)
        return bool(self.mount_layers(target, [layer]))

    def _show(
        self, target: RepositoryName, staged: Staged, digest: Digest, media_type: str
    ) -> Descriptor:
        repository = self._tree.repository(target)
        with (
            self._at_work(),
            self._storage.discarding(staged),
            self._tree.repository_lock(target),
            self._tree.pool_lock(),
            self._tree.under_way.one(),
        ):
            self._leases.take(repository.layout, [digest])
            replaced = self._publish(repository, digest, staged)
        self._storage.sync()
        self._tree.heal(digest, replaced)
        return Descriptor(media_type, digest, staged.size)

    def _publish(self, repository: Repository, digest: Digest, staged: Staged) -> File | None:
        """Publish staged content as a blob; return the pool's damaged file that it replaced."""
        replaced = self._pool.add(digest, staged)
        self._pool.link(digest, repository)
        return replaced

    def _describe(self, target: RepositoryName, digest: Digest, media_type: str) -> Descriptor:
        file = self._tree.repository(target).blob(digest)
        return Descriptor(media_type, digest, file.size if file else None)

    # -- manifests

    @contextlib.contextmanager
    def _staged_config(self, manifest: Manifest, config: bytes | None) -> Iterator[Staged | None]:
        if config is None:
            yield None
            return
        if manifest.config is None:
            raise errors.ManifestInvalid(f"a {manifest.media_type} has no config")
        stream = VerifiedStream([config], manifest.config.digest, manifest.config.size)
        staged = self._storage.stage(stream)
        with self._storage.discarding(staged):
            yield staged

    def _publish_config(
        self, repository: Repository, config: Descriptor | None, staged: Staged | None
    ) -> File | None:
        """Publish a config that came with its manifest; return what _publish() does."""
        if not staged or not config:
            return None
        with self._tree.pool_lock():
            # put_manifest() drops it, and it must not be the lease of another upload.
            self._leases.take(repository.layout, [config.digest])
            return self._publish(repository, config.digest, staged)

    def _check_blobs(self, repository: Repository, manifest: Manifest, config: bool) -> None:
        missing = []
        sizes: dict[object, tuple[int, int | None]] = {}
        files = repository.blobs_among([blob.digest.value for blob in manifest.blobs()])
        for blob in manifest.blobs():
            if config and manifest.config and blob.digest == manifest.config.digest:
                continue
            file = files.get(blob.digest.value)
            if not fits(file, blob.size):
                missing.append(blob.digest)
                sizes |= {blob.digest: (file.size, blob.size)} if file else {}
        if missing:
            raise errors.BlobUnknown(missing, sizes)

    def _is_whole(self, repository: Repository, manifest: Manifest) -> bool:
        """Return whether the blobs of a manifest are the pool's, and no change is unfinished."""
        if self._storage.file(repository.layout.unfinished):
            return False
        blobs = list(manifest.blobs())
        files = repository.blobs_among([blob.digest.value for blob in blobs])
        return len(files) == len(blobs) and all(
            self._pool.shares(blob.digest, files[blob.digest.value], blob.size) for blob in blobs
        )

    def _is_named(
        self, target: RepositoryName, manifest: Manifest, digest: Digest, tag: Tag | None
    ) -> bool:
        """Return whether everything is there that would be written beside a manifest's blobs."""
        dry = DryRun(self._storage.root, layout.PLACES, beside=self._storage)
        repository = self._tree.repository(target, dry)
        try:
            repository.put(manifest, digest, tag)
        except AssertionError:  # a change that a dry run cannot note
            return False
        return not dry.changes and self._tree.catalog.is_right(target, listed=True)

    # -- deleting

    def _delete(
        self,
        name: RepositoryName,
        wanted: Collection[Tag | Digest],
        narrow: Callable[[Collection[Tag | Digest]], Collection[Tag | Digest]] = list,
    ) -> tuple[bool, Deletion]:
        repository = self._tree.repository(name)
        with (
            self._tree.repository_lock(name),
            self._tree.changing(repository) as resumed,
        ):
            references = narrow(wanted)
            held = self._leases.live(repository.layout)
            plan = garbage.plan(self._storage, repository, held, references, again=not resumed)
            tags = {r for r in references if isinstance(r, Tag)}
            digests = {r for r in references if isinstance(r, Digest)}
            found = bool(plan.tags) or any(map(repository.has_manifest, digests))
            repository.remove_references(tags | plan.tags, digests)
            # Also when the image is absent: this removes the rest of a delete that was killed.
            deletion = self._collect(repository, plan, resumed=resumed)
            if plan.left:
                repository.close_removal()
            else:
                self._tree.remove_if_empty(repository)
        if plan.doubts:
            raise errors.NeedUnknown(plan.doubts, deletion)
        return found, deletion

    def _collect(self, repository: Repository, plan: garbage.Plan, *, resumed: bool) -> Deletion:
        for lease in self._leases.expired(repository.layout.leases):
            self._storage.drop(lease.path)
        freed = garbage.sweep(self._storage, repository, plan)
        with self._tree.pool_lock():
            # A process that was killed removed names without a record of which: look at all.
            candidates = [d for d, _ in self._pool.files()] if resumed else plan.digests
            freed += self._pool.sweep(candidates)
        return Deletion(plan.manifests, plan.digests, freed)
