# SPDX-License-Identifier: Apache-2.0
"""Intact copies of manifests, from anywhere in the tree, to restore others from."""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Iterator, Mapping

from image_uploader_plugins import errors, manifest
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.manifest import Manifest


class Copies:
    """All intact manifests of a tree, found when the first is asked for."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._found: dict[Digest, Manifest | None] = {}

    def find(self, digest: Digest) -> Manifest | None:
        """Return an intact copy of a manifest, under any of its names in any repository."""
        if digest not in self._found:
            paths = (path for place in self._places[digest] for path in _names(place, digest))
            self._found[digest] = next(filter(None, (self._read(p, digest) for p in paths)), None)
        return self._found[digest]

    @functools.cached_property
    def _places(self) -> Mapping[Digest, list[RepositoryLayout]]:
        found: dict[Digest, list[RepositoryLayout]] = collections.defaultdict(list)
        for name in self._tree.repositories():
            repository = self._tree.repository(name)
            with contextlib.suppress(errors.StorageError):
                for digest in repository.manifests():
                    found[digest].append(repository.layout)
        return found

    def _read(self, path: str, digest: Digest) -> Manifest | None:
        with contextlib.suppress(
            errors.StorageError, errors.DigestMismatch, errors.ManifestInvalid
        ):
            content = self._tree.storage.read(path, manifest.SIZE_LIMIT)
            digest.verify(content)
            return Manifest.parse(content)
        return None


def _names(place: RepositoryLayout, digest: Digest) -> Iterator[str]:
    yield place.manifest_content(digest)
    for media_type in layout.TYPE_FILES:
        yield place.typed_manifest(digest, media_type)
