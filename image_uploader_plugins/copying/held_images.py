# SPDX-License-Identifier: Apache-2.0
"""The images that a target has whole already, so that nothing of them need be fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.image_walk import Manifests, fetch, left_behind, walk
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag


class Part(NamedTuple):
    """A manifest of an image, and the digest that it goes by."""

    manifest: Manifest
    digest: Digest


class HeldImages:
    """The images in repository ``target`` of ``driver``, compared with what a source says.

    ``source`` says which manifests of an index belong to an image; ``has_more``
    returns of a manifest whether the target also has what the driver does not
    look at.
    """

    def __init__(
        self,
        driver: UploaderDriver,
        target: RepositoryName,
        source: Manifests,
        has_more: Callable[[Manifest], bool],
    ) -> None:
        self._driver = driver
        self._target = target
        self._source = source
        self._has_more = has_more
        self._found: dict[tuple[Tag | None, Descriptor], list[Part]] = {}

    def image(self, described: Descriptor, tag: Tag | None) -> list[Part]:
        """Return the manifests of an image, in the order of walk(), if copying changes nothing.

        An empty list where anything of it is missing, or is not as ``described``.
        """
        key = tag, described
        if key not in self._found:
            try:
                found = self._image(described, tag)
            except errors.UploaderError:  # of what is missing, or broken
                return []
            self._found[key] = found
        return self._found[key]

    def _image(self, described: Descriptor, tag: Tag | None) -> list[Part]:
        held = _Held(self._driver, self._target, self._source, tag, described.digest)
        top = fetch(held, described)
        parts = [Part(manifest, name) for manifest, name in walk(held, top, described.digest)]
        if not all(self._is_right(part, held) for part in parts):
            raise errors.ImageUnknown(f"not whole: {described.digest}")
        return parts

    def _is_right(self, part: Part, held: _Held) -> bool:
        media_type = part.manifest.media_type
        # NOTE: the digest of a signed schema 1 manifest is not that of its bytes.
        is_named_by_content = media_type not in media_types.SCHEMA1_TYPES
        is_same_type = held.types[part.digest] == media_type
        is_right = is_named_by_content and is_same_type and self._has_more(part.manifest)
        return is_right and (not part.manifest.is_index or self._has_the_rest_noted(part))

    def _has_the_rest_noted(self, index: Part) -> bool:
        """Return whether those children that do not belong to the image are known to be left out.

        Others of them may be there, as another choice of platforms has left
        them: nothing is removed.
        """
        noted = self._driver.left_out(self._target, index.digest)
        if noted is None:
            return True
        rest = left_behind(self._source, index.manifest)
        there = (self._driver.resolve(ImageRef(self._target, child)) for child in rest - noted)
        return noted <= rest and all(there)


class _Held:
    """The manifests that a target holds, of an image whose ``top`` is to go by ``tag``.

    ``types`` are the media types that they were put with.
    """

    def __init__(
        self,
        driver: UploaderDriver,
        target: RepositoryName,
        source: Manifests,
        tag: Tag | None,
        top: Digest,
    ) -> None:
        self._driver = driver
        self._target = target
        self._source = source
        self._tags = {top: tag}
        self.types: dict[Digest, str] = {}

    def manifest(self, reference: Digest, size: int | None = None) -> Manifest:
        tag = self._tags.get(reference)
        found = self._driver.held_manifest(self._target, reference, tag=tag)
        if not found:
            raise errors.ImageUnknown(f"not held: {reference}")
        if size not in (None, len(found.content)):
            raise errors.SizeMismatch(size or 0, len(found.content))
        self.types[reference] = found.media_type
        return found

    def children(self, index: Manifest) -> Sequence[Descriptor]:
        return self._source.children(index)
