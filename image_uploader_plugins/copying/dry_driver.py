# SPDX-License-Identifier: Apache-2.0
"""A driver that changes nothing, and notes what copying an image would bring."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn, Self

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import NO_SOURCES, Deletion, UploaderDriver
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag


class DryDriver(UploaderDriver):
    """Answers for ``driver``, and takes what is put for stored.

    ``blobs`` would be fetched, each with its size (None where nobody says);
    with ``at_most``, maybe less.  Of the ``manifests`` that would be put, with
    so many ``bytes`` together, ``new_tags`` have a tag that is not there yet.
    ``is_changed`` says whether anything of the image would be other than it
    is, and ``is_needed`` whether the driver would have to do anything.
    """

    def __init__(self, driver: UploaderDriver) -> None:
        self._driver = driver
        self.blobs: dict[Digest, int | None] = {}
        self.at_most = False
        self.is_changed = self.is_needed = False
        self.manifests = self.new_tags = self.bytes = 0

    @classmethod
    def from_conf(cls, conf: Any) -> Self:
        raise errors.ConfigurationError("this driver is for plans")

    def mount_layers(
        self,
        target: RepositoryName,
        layers: Iterable[Descriptor],
        sources: Mapping[Digest, RepositoryName] = NO_SOURCES,
        *,
        check: bool = False,
    ) -> frozenset[Digest]:
        """Note which blobs would be fetched; say that all of them are there."""
        wanted = list(layers)
        present = self.present(target, wanted)
        absent = [layer for layer in wanted if layer.digest not in present]
        if absent:
            self.is_changed = self.is_needed = True
            held = self._driver.mountable(absent)
            self.at_most |= held is None
            self.blobs |= {
                layer.digest: layer.size for layer in absent if layer.digest not in (held or ())
            }
        return frozenset(layer.digest for layer in wanted)

    def upload_layer(self, target: RepositoryName, *_: object, **__: object) -> NoReturn:
        raise self._refused(target)

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
        """Note a manifest that would be put, unless putting it would change nothing."""
        digest = expected or Digest.of(content)
        before = None
        with contextlib.suppress(errors.UploaderError):
            before = self.resolve(ImageRef(target, tag or digest))
        self.is_changed |= before != digest
        if not self.held_manifest(target, digest, tag=tag):
            self.is_needed = True
            self.manifests += 1
            self.bytes += len(content)
            self.new_tags += tag is not None and before is None
        return Descriptor(media_type, digest, len(content))

    def leave_out(
        self, target: RepositoryName, index: Digest, children: Collection[Digest]
    ) -> None:
        """Note whether others were left out before."""
        self.is_needed |= self.left_out(target, index) not in (None, frozenset(children))

    def delete(self, target: ImageRef) -> Deletion:
        raise self._refused(target)

    def resolve(self, target: ImageRef) -> Digest | None:
        return self._driver.resolve(target)

    def present(self, target: RepositoryName, layers: Iterable[Descriptor]) -> frozenset[Digest]:
        with contextlib.suppress(errors.UploaderError):  # what is broken is about to be mended
            return self._driver.present(target, layers)
        return frozenset()

    def held_manifest(
        self, target: RepositoryName, digest: Digest, *, tag: Tag | None = None
    ) -> Manifest | None:
        return self._driver.held_manifest(target, digest, tag=tag)

    def left_out(self, target: RepositoryName, index: Digest) -> frozenset[Digest] | None:
        return self._driver.left_out(target, index)

    def _refused(self, target: object) -> errors.StorageError:
        return errors.StorageError(target, "a plan changes nothing")
