# SPDX-License-Identifier: Apache-2.0
"""Adoption: taking blobs that other tools wrote into the pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from image_uploader_plugins import parallel
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.link_counts import LinkCounts
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import RepositoryName


class Adoption(NamedTuple):
    """The result for one blob; ``bytes_freed`` of a copy that a link replaced.

    ``intact`` is False for a blob whose bytes do not hash to its name; it stays
    as it is.
    """

    path: PurePosixPath
    size: int
    bytes_freed: int
    intact: bool = True


def adopt(tree: Tree, names: Iterable[RepositoryName] | None = None) -> Iterator[Adoption]:
    """Make every blob of these repositories (default: all) a link to the pool.

    Each blob is verified first; of several copies one stays. Content is hashed
    without a lock, so that writers do not wait.
    """
    damaged = []
    for blob, adoption in parallel.each(lambda b: _adopt(tree, *b), strangers(tree, names)):
        if adoption and adoption.intact:
            yield adoption
        elif adoption:
            damaged.append(blob)
    # By now the pool may have an intact copy from another repository.
    yield from filter(None, (_adopt(tree, *blob) for blob in damaged))


def strangers(
    tree: Tree, names: Iterable[RepositoryName] | None = None
) -> Iterator[tuple[Repository, Digest, PurePosixPath]]:
    """Yield the blobs that are not links to the pool, and could be."""
    return (blob for blob in tree.blobs(names) if not _is_linked(tree, *blob[1:]))


def _is_linked(tree: Tree, digest: Digest, path: PurePosixPath) -> bool:
    present = tree.storage.file(path)
    return present is not None and tree.pool.is_linked(digest, present)


def _adopt(
    tree: Tree, repository: Repository, digest: Digest, path: PurePosixPath
) -> Adoption | None:
    with tree.fetch_lock(digest):  # only one of two copies is hashed
        tree.adopt(digest, repository)
    with tree.repository_lock(repository.name), tree.pool_lock():
        before = repository.blob(digest)
        if not before:
            return None  # deleted meanwhile, and must not come back
        linked = tree.pool.link(digest, repository)
        after = repository.blob(digest)
    freed = LinkCounts().remove(before) if after and after.inode != before.inode else 0
    return Adoption(path, before.size, freed, intact=linked)
