# SPDX-License-Identifier: Apache-2.0
"""OCI layouts.

Source: OCI image-spec 1.1.1, image-layout.md and annotations.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from image_uploader_plugins import errors, media_types, strict_json
from image_uploader_plugins.archives.archive import Archive, Entry
from image_uploader_plugins.archives.archive_files import Files
from image_uploader_plugins.archives.names import named
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.text import shown

VERSION_FILE = "oci-layout"
VERSION = {"imageLayoutVersion": "1.0.0"}
INDEX = "index.json"
BLOBS = "blobs"

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
# Ours: that part of the name that is the repository, and manifests that an
# index lists and the tree it came from did not hold.
REPOSITORY = "org.openstack.image-uploader.repository"
ABSENT = "org.openstack.image-uploader.absent"

# The kinds that `cosign save` and hauler give to entries of the same name.
_KIND = re.compile(r"dev\.(?:cosignproject\.cosign|hauler)/(\w+)(?:/.*)?")
_SUFFIXES = {"sigs": ".sig", "atts": ".att", "sboms": ".sbom"}

_VERSION_LIMIT = 4096
_NAMES = frozenset({"schemaVersion", "mediaType", "manifests", "imageLayoutVersion"})


class Layout(Archive):
    """An OCI layout; raises ArchiveInvalid for one of another version, or with a broken list."""

    def __init__(self, files: Files, *, sparse: bool = False) -> None:
        super().__init__(files, sparse=sparse)
        _check_version(files)
        for number, fields in enumerate(listed(files), 1):
            try:
                self._add(fields)
            except (errors.InvalidReference, errors.ManifestInvalid) as e:
                reason = f"{INDEX}, entry {number}: {e}"
                raise errors.ArchiveInvalid(files.path, reason) from e

    def place(self, digest: Digest) -> str:
        return blob(digest)

    def digests(self) -> Iterator[Digest]:
        for name in self.files.names():
            digest = blob_digest(name)
            if digest:
                yield digest

    def _add(self, fields: Any) -> None:
        descriptor = Descriptor.parse(fields)
        names = entry_annotations(fields)
        # NOTE: beside containerd's, ref.name is just the tag.
        given = names.get(CONTAINERD_NAME) or names.get(REF_NAME)
        name, repository = named(given), names.get(REPOSITORY)
        # NOTE: containerd keeps annotations when an image gets another name.
        if given and not given.startswith(f"{repository}:"):
            repository = None
        kind = _KIND.fullmatch(names.get("kind", ""))
        if kind and kind[1] == "referrers":
            name = None  # it has the name of what it refers to, and says itself which that is
        if descriptor.media_type not in media_types.IMAGE_TYPES | media_types.INDEX_TYPES:
            # image-layout.md, "index.json": what is unknown must be ignored.
            self.skipped.append(f"{name or descriptor.digest} is of type {descriptor.media_type}")
            return
        self.known_absent |= {Digest(text) for text in names.get(ABSENT, "").split(",") if text}
        suffix = _SUFFIXES.get(kind[1]) if kind else None
        self.add(Entry(descriptor, name, repository, suffix=suffix))


def blob(digest: Digest) -> str:
    """Return where a layout keeps a blob."""
    return f"{BLOBS}/{digest.algorithm}/{digest.encoded}"


def blob_digest(name: str) -> Digest | None:
    """Return the digest of the blob that a file of a layout holds; None for any other file."""
    algorithm, _, encoded = name.removeprefix(f"{BLOBS}/").partition("/")
    try:
        digest = Digest(f"{algorithm}:{encoded}")
    except errors.InvalidReference:
        return None
    return digest if blob(digest) == name else None


def listed(files: Files) -> list[Any]:
    """Return what index.json lists, unchecked; raises ArchiveInvalid."""
    index = _mapping(files, INDEX)
    if index.get("schemaVersion") != 2:
        raise files.invalid(INDEX, f"has schemaVersion {shown(index.get('schemaVersion'))}, not 2")
    found = index.get("manifests") or []
    if not isinstance(found, list):
        raise files.invalid(INDEX, "has 'manifests' that are no list")
    return found


def entry_annotations(fields: Any) -> dict[str, str]:
    """Return those of an entry that follow annotations.md: values are strings."""
    found = fields.get("annotations") if isinstance(fields, dict) else None
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: text for name, text in pairs if isinstance(text, str)}


def _check_version(files: Files) -> None:
    found = _mapping(files, VERSION_FILE, _VERSION_LIMIT).get("imageLayoutVersion")
    if found != VERSION["imageLayoutVersion"]:
        raise files.invalid(VERSION_FILE, f"says version {shown(found)}, 1.0.0 is known")


def _mapping(files: Files, name: str, *limit: int) -> Mapping[str, Any]:
    fields = files.load(name, *limit)
    if not isinstance(fields, dict):
        raise files.invalid(name, "is not a JSON object")
    try:
        strict_json.check_names(fields, _NAMES)
    except errors.ManifestInvalid as e:
        raise files.invalid(name, f"is ambiguous: {e}") from e
    return fields
