# SPDX-License-Identifier: Apache-2.0
"""The driver: its options, its four verbs, and its one lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from oslo_config import cfg

from image_uploader_oci_layout import disk
from image_uploader_oci_layout.collecting import collect
from image_uploader_oci_layout.layout import Layout
from image_uploader_oci_layout.leases import Leases
from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest, VerifiedStream
from image_uploader_plugins.driver import NO_SOURCES, Deletion, UploaderDriver
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag

GROUP = "oci_layout"
LEASE_TIMEOUT = 24 * 60 * 60  # seconds

_OPTIONS = [
    cfg.StrOpt(
        "root",
        default="/var/lib/oci-layouts",
        help="The directory that holds the layouts, as an absolute path: one for each "
        "repository, with + for the slashes in its name. On one file system, with hard links.",
    ),
    cfg.IntOpt(
        "lease_timeout",
        default=LEASE_TIMEOUT,
        min=60,
        help="Seconds for which a layer that no manifest names yet survives any delete. Must "
        "be longer than the longest upload of one image.",
    ),
]


class OciLayoutDriver(UploaderDriver):
    """Writes each repository as an OCI image layout below ``root``.

    The state of the driver is in names that begin with a dot, which no
    repository has.  Content is read and hashed outside the lock.
    """

    def __init__(self, root: str | Path, lease_timeout: int = LEASE_TIMEOUT) -> None:
        self._root = Path(root)
        if not self._root.is_absolute():
            raise errors.ConfigurationError(f"[{GROUP}] root must be absolute: {str(root)!r}")
        self._lease_timeout = lease_timeout
        self._staging = self._root / ".staging"
        self._leases = Leases(self._root / ".leases", lease_timeout)

    def __reduce__(self) -> tuple[Any, ...]:
        # Leases stay with whoever took them.
        return type(self), (self._root, self._lease_timeout)

    @classmethod
    def list_opts(cls) -> list[tuple[str | None, list[Any]]]:
        return [(GROUP, list(_OPTIONS))]

    @classmethod
    def from_conf(cls, conf: Any) -> Self:
        conf.register_opts(_OPTIONS, group=GROUP)
        return cls(conf[GROUP].root, conf[GROUP].lease_timeout)

    def mount_layers(
        self,
        target: RepositoryName,
        layers: Iterable[Descriptor],
        sources: Mapping[Digest, RepositoryName] = NO_SOURCES,
        *,
        check: bool = False,
    ) -> frozenset[Digest]:
        # Content is always checked here.
        return frozenset(
            layer.digest
            for layer in layers
            if self._mount(target, layer, sources.get(layer.digest))
        )

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
        layout = self._layout(target)
        if expected and self._mount(target, Descriptor(media_type, expected, size), None):
            return Descriptor(media_type, expected, layout.size(expected))
        stream = VerifiedStream(chunks, expected, size)
        with disk.staged(self._staging, stream) as temporary, self._locked():
            self._leases.take(_folder(target), stream.digest)
            disk.publish(temporary, layout.blob(stream.digest))
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
        described = Descriptor(manifest.media_type, digest, len(content))
        with contextlib.ExitStack() as stack:
            new = {digest: stack.enter_context(disk.staged(self._staging, [content]))}
            for name, chunks in _given(manifest, config):
                new[name] = stack.enter_context(disk.staged(self._staging, chunks))
            stack.enter_context(self._locked())
            layout = self._loaded(target)
            _check(layout, manifest, new)
            for name, temporary in new.items():
                disk.publish(temporary, layout.blob(name))
            layout.manifests[digest] = described
            if tag:
                layout.tags[tag] = digest
            else:
                layout.pins.add(digest)
            layout.save()
            self._leases.drop(_folder(target), (blob.digest for blob in manifest.blobs()))
        return described

    def delete(self, target: ImageRef) -> Deletion:
        with self._locked():
            layout = self._loaded(target.repository)
            if target.reference not in {*layout.tags, *layout.manifests}:
                raise errors.ImageUnknown(f"no such image: {target}", target)
            for tag, digest in list(layout.tags.items()):
                if target.reference in (tag, digest):
                    del layout.tags[tag]
            layout.pins.discard(target.reference)
            layout.save()
            held = self._leases.live(_folder(target.repository))
            return collect(layout, held, target)

    def close(self) -> None:
        with self._locked():
            self._leases.drop_all()

    def _mount(
        self, target: RepositoryName, layer: Descriptor, source: RepositoryName | None
    ) -> bool:
        """Link an intact copy from wherever there is one, and protect it."""
        layout, digest = self._layout(target), layer.digest
        for copy in self._copies(target, digest, source):
            if layer.size in (None, copy.size(digest)) and copy.holds(digest):
                with self._locked():
                    if copy.size(digest) is None:
                        continue  # deleted meanwhile
                    self._leases.take(_folder(target), digest)
                    disk.link(copy.blob(digest), layout.blob(digest), self._staging)
                    return True
        return False

    def _copies(
        self, target: RepositoryName, digest: Digest, source: RepositoryName | None
    ) -> Iterator[Layout]:
        yield self._layout(target)
        if source:
            yield self._layout(source)
        for path in sorted(self._root.glob(f"[!.]*/blobs/{digest.algorithm}/{digest.encoded}")):
            yield Layout(path.parents[2], self._staging)

    def _layout(self, name: RepositoryName) -> Layout:
        return Layout(self._root / _folder(name), self._staging)

    def _loaded(self, name: RepositoryName) -> Layout:
        layout = self._layout(name)
        layout.load()
        return layout

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return disk.locked(self._root / ".lock")


def _folder(name: RepositoryName) -> str:
    """No name has a +, so no two repositories meet."""
    return name.value.replace("/", "+")


def _given(manifest: Manifest, config: bytes | None) -> Iterator[tuple[Digest, Iterable[bytes]]]:
    """Yield the config that came along, which is checked while it is written."""
    if config is not None:
        if manifest.config is None:
            raise errors.ManifestInvalid(f"a {manifest.media_type} has no config")
        described = manifest.config
        yield described.digest, VerifiedStream([config], described.digest, described.size)


def _check(layout: Layout, manifest: Manifest, new: Mapping[Digest, Path]) -> None:
    missing = []
    for blob in manifest.blobs():
        size = layout.size(blob.digest)
        if blob.digest not in new and (size is None or blob.size not in (None, size)):
            missing.append(blob.digest)
    if missing:
        raise errors.BlobUnknown(missing)
