# SPDX-License-Identifier: Apache-2.0
"""The inventory of a repository in the tree, read from its files."""

from __future__ import annotations

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.graph import Inventory
from image_uploader_plugins.local_export.repository import Repository
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.storage import NotFound


def take_inventory(repository: Repository) -> Inventory:
    """Read every name and manifest; raise StorageError if one cannot be read for now."""
    inventory = look(repository)
    for error in inventory.unread():
        raise error
    return inventory


def look(repository: Repository) -> Inventory:
    """Read every name and manifest; keep the error of each that cannot be read.

    Raises StorageError where the names themselves cannot be read.
    """
    # Names are read first, since a manifest is written before its name.
    tags: dict[Tag, list[Digest]] = {}
    lost: dict[Tag, errors.UploaderError] = {}
    found, pins = repository.tags_and_pins()
    for tag in sorted(found):
        try:
            tags[tag] = repository.tag_digests(tag, legacy_too=found[tag])
        except (errors.ManifestInvalid, errors.StorageError) as e:
            lost[tag] = e
    readable: dict[Digest, Manifest] = {}
    broken: dict[Digest, errors.UploaderError] = {}
    for digest, outcome in repository.read_manifests():
        if isinstance(outcome, Manifest):
            readable[digest] = outcome
        elif isinstance(outcome, NotFound) and not repository.is_vacant(digest):
            broken[digest] = errors.ManifestInvalid("is missing, and was there", outcome.path)
        else:
            broken[digest] = outcome
    return Inventory(repository.name, tags, lost, frozenset(pins), readable, broken)
