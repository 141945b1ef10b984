# SPDX-License-Identifier: Apache-2.0
"""Repair of a tree from its own content."""

from __future__ import annotations

from pathlib import PurePosixPath

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.inventory import take_inventory
from image_uploader_plugins.local_export.maintenance import adopt
from image_uploader_plugins.local_export.maintenance.collect import Collector
from image_uploader_plugins.local_export.reports import elsewhere
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify.finding import Report
from image_uploader_plugins.local_export.verify.verification import Verification
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import failed, is_temporary


def repair(verification: Verification, report: Report) -> Report:
    """Mend the findings of ``report`` as far as the tree can; return a report of the rest.

    Damaged content is removed where no intact copy is left, and must be fetched
    again: what a name says is what the bytes hash to. Content counts as damaged
    only if it was read whole, twice, and was wrong both times; a repository in
    which something cannot be read is left as it is. Damaged manifests stay,
    since what they need would otherwise be taken for garbage.
    """
    tree = verification.tree
    tree.lay_foundation()
    for path in sorted({finding.path for finding in report.findings}):
        _mend_file(verification, path)
    _remove_damaged_from_pool(verification)
    names = [name for name in verification.repositories() if name not in verification.unread]
    # Adoption makes every intact blob a link to the pool, also where a copy was damaged.
    _adopt(tree, names)
    for name in names:
        _mend(verification, name)
    if not verification.unread:
        list(Collector(tree).collect(verification.names))
        with tree.catalog_lock():
            tree.catalog.rebuild()
    return verification.report()


def _mend_file(verification: Verification, path: PurePosixPath) -> None:
    tree, access = verification.tree, verification.access
    try:
        file = tree.storage.status(path)
    except errors.StorageError:
        return  # a link or file in a folder's place; what stays is reported again
    if file and is_temporary(file.path.name):
        tree.storage.unlink(file.path)
    elif file and any(access.findings(file)) and access.can_mend(file):
        tree.storage.set_access(file.path)


def _remove_damaged_from_pool(verification: Verification) -> None:
    pool, contents = verification.tree.pool, verification.contents
    for digest, file in list(pool.files()):
        if contents.is_damaged(digest, file):
            with verification.tree.pool_lock():
                now = pool.file(digest)
                if now and contents.is_damaged(digest, now):
                    verification.tree.storage.unlink(file.path)


def _adopt(tree: Tree, names: list[RepositoryName]) -> None:
    try:
        list(adopt.adopt(tree, names))
    except errors.StorageError as e:
        if not failed(e) or isinstance(e, errors.StorageFull | errors.StorageDenied):
            raise
        # The report that follows tells what could not be read just now.


def _mend(verification: Verification, name: RepositoryName) -> None:
    try:
        _mend_repository(verification, verification.tree.repository(name))
    except (errors.StorageFull, errors.StorageDenied):
        raise
    except errors.StorageError:
        return  # something foreign is in the way, and is reported again


def _mend_repository(verification: Verification, repository: Repository) -> None:
    tree, contents = verification.tree, verification.contents
    with tree.repository_lock(repository.name):
        if repository.name in verification.misplaced:
            repository.make_way()
        with tree.changing(repository):
            _restore_manifests(verification, repository)
            with tree.pool_lock():
                for digest, path in list(repository.blobs()):
                    file = tree.storage.file(path)
                    if file and contents.is_damaged(digest, file):
                        tree.storage.unlink(path)
                for digest in sorted(_needed(repository)):
                    tree.pool.link(digest, repository)
            repository.refresh(thoroughly=True)
            tree.remove_if_empty(repository)


def _restore_manifests(verification: Verification, repository: Repository) -> None:
    """Restore damaged and missing manifests, children of indexes too, from intact copies."""
    inventory = take_inventory(repository)
    pending = set(inventory.present)
    seen: set[Digest] = set()
    while pending:
        digest = pending.pop()
        seen.add(digest)
        parsed = inventory.readable.get(digest)
        if parsed is None:
            parsed = verification.copies.find(digest)
            if parsed is None:
                continue
            repository.write_manifest(parsed, digest)
        on_purpose = elsewhere.left_out(repository, inventory, digest)
        pending |= {child.digest for child in parsed.manifests} - seen - on_purpose


def _needed(repository: Repository) -> set[Digest]:
    manifests = repository.readable_manifests().values()
    return {blob.digest for parsed in manifests for blob in parsed.blobs()}
