"""Mending what can be mended from the tree itself."""

from __future__ import annotations

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import adoption, layout
from image_uploader_plugins.local_export.garbage import Collector
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify.finding import Finding, Report
from image_uploader_plugins.local_export.verify.inspection import wrong_mode
from image_uploader_plugins.local_export.verify.verification import Verification


def repair(verification: Verification, report: Report) -> Report:
    """Mend what ``report`` tells of and the tree can give; returns what is still wrong.

    Damaged content goes where no intact copy is left, since no name may lie:
    it must be fetched again.  Damaged manifests stay, so that what they need
    is not taken for garbage meanwhile.
    """
    tree = verification.tree
    tree.lay_foundation()
    for finding in report.findings:
        _mend_file(tree, finding)
    _remove_damaged_from_pool(verification)
    # From here on every intact blob is a link to the pool, also where a copy was damaged.
    list(adoption.adopt(tree, verification.names))
    for name in verification.repositories():
        try:
            _mend_repository(verification, tree.repository(name))
        except (errors.StorageFull, errors.StorageDenied):
            raise
        except errors.StorageError:
            continue  # something that is not ours is in the way, and is found again
    list(Collector(tree).collect(verification.names))
    with tree.catalog_lock():
        tree.catalog.rebuild()
    return verification.report()


def _mend_file(tree: Tree, finding: Finding) -> None:
    file = tree.storage.status(finding.path)
    if file and layout.is_temporary(file.path.name):
        tree.storage.unlink(file.path)
    elif file and any(wrong_mode(file)):
        tree.storage.set_mode(file.path, folder=file.kind == "folder")


def _remove_damaged_from_pool(verification: Verification) -> None:
    pool, contents = verification.tree.pool, verification.contents
    for digest, file in list(pool.files()):
        if contents.is_damaged(digest, file):
            with verification.tree.pool_lock():
                now = pool.file(digest)
                if now and now.inode == file.inode:
                    verification.tree.storage.unlink(file.path, durable=True)


def _mend_repository(verification: Verification, repository: Repository) -> None:
    tree = verification.tree
    with tree.repository_lock(repository.name), tree.changing(repository):
        _restore_manifests(tree, repository)
        with tree.pool_lock():
            for digest, path in list(repository.blobs()):
                file = tree.storage.file(path)
                if file and verification.contents.is_damaged(digest, file):
                    tree.storage.unlink(path, durable=True)
            for digest in _needed(repository):
                tree.pool.link(digest, repository)
        repository.refresh(thoroughly=True)
        tree.remove_if_empty(repository)


def _restore_manifests(tree: Tree, repository: Repository) -> None:
    """From other repositories, also the children that an index lists."""
    pending = repository.manifests()
    seen: set[Digest] = set()
    while pending:
        digest = pending.pop()
        seen.add(digest)
        try:
            parsed = repository.read_manifest(digest)
        except (errors.ManifestInvalid, errors.StorageError):
            found = tree.find_manifest(digest)
            if found is None:
                continue
            repository.write_manifest(found, digest)
            parsed = found
        pending |= {child.digest for child in parsed.manifests} - seen


def _needed(repository: Repository) -> set[Digest]:
    manifests = repository.readable_manifests().values()
    return {blob.digest for parsed in manifests for blob in parsed.blobs()}
