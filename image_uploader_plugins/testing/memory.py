# SPDX-License-Identifier: Apache-2.0
"""A driver that keeps everything in memory, and does just what the contract asks for."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Self

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.driver import NO_SOURCES, Deletion, UploaderDriver
from image_uploader_plugins.local_export.graph import Inventory
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag


class _Repository:
    def __init__(self) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self.manifests: dict[Digest, Manifest] = {}
        self.tags: dict[Tag, Digest] = {}
        self.pins: set[Digest] = set()
        self.leases: set[Digest] = set()
        self.left_out: dict[Digest, frozenset[Digest]] = {}

    def live(self, name: RepositoryName, deleted: Tag | Digest) -> frozenset[Digest]:
        """Return the manifests that names lead to; ``deleted`` goes although its subject stays."""
        tags = {tag: [digest] for tag, digest in self.tags.items()}
        found = Inventory(name, tags, {}, frozenset(self.pins), self.manifests, {})
        return found.live([deleted])


class MemoryDriver(UploaderDriver):
    """A driver in memory; instances of one ``name`` share their content."""

    _targets: ClassVar[dict[str, dict[RepositoryName, _Repository]]] = {}
    _lock = threading.RLock()

    def __init__(self, name: str = "default") -> None:
        self._name = name
        self.repositories = self._targets.setdefault(name, {})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._name,)

    @classmethod
    def from_conf(cls, conf: Any) -> Self:
        return cls()

    def mount_layers(
        self,
        target: RepositoryName,
        layers: Iterable[Descriptor],
        sources: Mapping[Digest, RepositoryName] = NO_SOURCES,
        *,
        check: bool = False,
    ) -> frozenset[Digest]:
        with self._lock:
            every = [item for r in self.repositories.values() for item in r.blobs.items()]
            held = {d: c for d, c in every if not check or Digest.of(c, d.algorithm) == d}
            mounted = {
                layer.digest: held[layer.digest]
                for layer in layers
                if layer.digest in held and layer.size in (None, len(held[layer.digest]))
            }
            if mounted:
                self._put(target, mounted)
            return frozenset(mounted)

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
        if expected and self.mount_layers(target, [Descriptor(media_type, expected, size)]):
            size = len(self.repositories[target].blobs[expected])
            return Descriptor(media_type, expected, size)
        stream = VerifiedStream(chunks, expected, size)
        content = b"".join(stream)
        with self._lock:
            self._put(target, {stream.digest: content})
        return Descriptor(media_type, stream.digest, stream.size)

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
        if config is not None:
            if manifest.config is None:
                raise errors.ManifestInvalid(f"a {media_type} has no config")
            stream = VerifiedStream([config], manifest.config.digest, manifest.config.size)
            self.upload_layer(target, [b"".join(stream)], expected=manifest.config.digest)
        with self._lock:
            self._check(target, manifest)
            repository = self.repositories.setdefault(target, _Repository())
            repository.manifests[digest] = manifest
            repository.leases -= {blob.digest for blob in manifest.blobs()}
            if tag:
                repository.tags[tag] = digest
            else:
                repository.pins.add(digest)
        return Descriptor(manifest.media_type, digest, len(content))

    def leave_out(
        self, target: RepositoryName, index: Digest, children: Collection[Digest]
    ) -> None:
        with self._lock:
            repository = self.repositories.get(target, _Repository())
            if index in repository.manifests:
                repository.left_out[index] = frozenset(children)

    def resolve(self, target: ImageRef) -> Digest | None:
        with self._lock:
            repository = self.repositories.get(target.repository, _Repository())
            reference = target.reference
            digest = repository.tags.get(reference) if isinstance(reference, Tag) else reference
            return digest if digest in repository.manifests else None

    def present(self, target: RepositoryName, layers: Iterable[Descriptor]) -> frozenset[Digest]:
        with self._lock:
            held = self.repositories.get(target, _Repository()).blobs
            return frozenset(
                layer.digest
                for layer in layers
                if layer.digest in held and layer.size in (None, len(held[layer.digest]))
            )

    def held_manifest(
        self, target: RepositoryName, digest: Digest, *, tag: Tag | None = None
    ) -> Manifest | None:
        with self._lock:
            repository = self.repositories.get(target, _Repository())
            is_named = repository.tags.get(tag) == digest if tag else digest in repository.pins
            manifest = repository.manifests.get(digest) if is_named else None
            try:
                if manifest:
                    digest.verify(manifest.content)
                    self._check(target, manifest)
            except errors.ContentError:
                return None
            return manifest

    def mountable(self, layers: Iterable[Descriptor]) -> frozenset[Digest]:
        with self._lock:
            held = {d: len(c) for r in self.repositories.values() for d, c in r.blobs.items()}
            return frozenset(
                layer.digest
                for layer in layers
                if layer.digest in held and layer.size in (None, held[layer.digest])
            )

    def tags(self, target: RepositoryName) -> frozenset[Tag]:
        with self._lock:
            return frozenset(self.repositories.get(target, _Repository()).tags)

    def left_out(self, target: RepositoryName, index: Digest) -> frozenset[Digest]:
        with self._lock:
            found = self.repositories.get(target, _Repository()).left_out
            return found.get(index, frozenset())

    def delete(self, target: ImageRef) -> Deletion:
        with self._lock:
            repository = self.repositories.get(target.repository, _Repository())
            reference = target.reference
            if reference not in {*repository.tags, *repository.manifests}:
                raise errors.ImageUnknown(f"no such image: {target}", target)
            for tag, digest in list(repository.tags.items()):
                if reference in (tag, digest):
                    del repository.tags[tag]
            repository.pins -= {reference}
            return self._collect(repository, target)

    def close(self) -> None:
        with self._lock:
            for repository in self.repositories.values():
                repository.leases.clear()

    def _put(self, target: RepositoryName, blobs: Mapping[Digest, bytes]) -> None:
        repository = self.repositories.setdefault(target, _Repository())
        repository.blobs.update(blobs)
        repository.leases.update(blobs)

    def _check(self, target: RepositoryName, manifest: Manifest) -> None:
        held = self.repositories.get(target, _Repository()).blobs
        missing = [
            blob.digest
            for blob in manifest.blobs()
            if blob.digest not in held or blob.size not in (None, len(held[blob.digest]))
        ]
        if missing:
            raise errors.BlobUnknown(missing)

    def _collect(self, repository: _Repository, target: ImageRef) -> Deletion:
        live = repository.live(target.repository, target.reference)
        manifests = tuple(digest for digest in repository.manifests if digest not in live)
        freed = 0
        for digest in manifests:
            freed += len(repository.manifests.pop(digest).content)
            repository.pins.discard(digest)
            repository.left_out.pop(digest, None)
        needed = {d.digest for m in repository.manifests.values() for d in m.blobs()}
        blobs = tuple(repository.blobs.keys() - needed - repository.leases)
        removed = {digest: repository.blobs.pop(digest) for digest in blobs}
        shared = {d for r in self.repositories.values() for d in r.blobs}
        freed += sum(len(content) for digest, content in removed.items() if digest not in shared)
        return Deletion(manifests, blobs, freed)
