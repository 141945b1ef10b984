"""OCI layouts.

Source: OCI image-spec 1.1.1, image-layout.md and annotations.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from image_uploader_plugins import errors, manifest
from image_uploader_plugins.archives.files import Files
from image_uploader_plugins.archives.source import Archive, Entry, mapping
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor

VERSION_FILE = "oci-layout"
VERSION = {"imageLayoutVersion": "1.0.0"}
INDEX = "index.json"

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
# Ours: the part of the name that is the repository, manifests that an index
# lists and the tree it came from did not hold, and the number of blobs that
# the other side has.
REPOSITORY = "org.openstack.image-uploader.repository"
ABSENT = "org.openstack.image-uploader.absent"
LEFT_OUT = "org.openstack.image-uploader.left-out"

_VERSION_LIMIT = 4096


class Layout(Archive):
    """An OCI layout; raises ArchiveInvalid for one of another version, or of none."""

    def __init__(self, files: Files, *, sparse: bool = False) -> None:
        super().__init__(files, sparse=sparse)
        check_version(files)
        for number, fields in enumerate(listed(files, mapping(files, INDEX))):
            try:
                self._add(fields)
            except errors.UploaderError as e:
                self.problems.append((_label(fields, number), e))

    def place(self, digest: Digest) -> str:
        return blob(digest)

    def _add(self, fields: Mapping[str, Any]) -> None:
        descriptor = Descriptor.parse(fields)
        if descriptor.media_type not in manifest.MEDIA_TYPES:
            raise errors.ManifestInvalid(f"not an image: {descriptor.media_type}")
        names = annotations(fields)
        self.known_absent |= {Digest(text) for text in names.get(ABSENT, "").split(",") if text}
        # NOTE: beside containerd's, ref.name is just the tag.
        name = names.get(CONTAINERD_NAME) or names.get(REF_NAME)
        self.entries.append(Entry(descriptor, name or None, names.get(REPOSITORY)))


def blob(digest: Digest) -> str:
    """Where a layout keeps a blob."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def digests(files: Files) -> Iterator[Digest]:
    """The blobs that lie where a layout keeps them."""
    for name in files.names():
        folder, _, encoded = name.removeprefix("blobs/").partition("/")
        try:
            digest = Digest(f"{folder}:{encoded}")
        except errors.InvalidReference:
            continue
        if name == blob(digest):
            yield digest


def check_version(files: Files) -> None:
    """Raise ArchiveInvalid unless ``files`` are a layout of the version that there is."""
    found = mapping(files, VERSION_FILE, _VERSION_LIMIT).get("imageLayoutVersion")
    if found != VERSION["imageLayoutVersion"]:
        raise files.invalid(VERSION_FILE, f"says version {found!r:.50}, 1.0.0 is known")


def listed(files: Files, index: Mapping[str, Any]) -> list[Any]:
    """What an index.json lists, unchecked."""
    if index.get("schemaVersion") != 2:
        raise files.invalid(INDEX, f"has schemaVersion {index.get('schemaVersion')!r:.50}, not 2")
    found = index.get("manifests") or []
    if not isinstance(found, list):
        raise files.invalid(INDEX, "has 'manifests' that are no list")
    return found


def annotations(fields: Any) -> dict[str, str]:
    """Those of an entry that follow annotations.md: values are strings."""
    found = fields.get("annotations") if isinstance(fields, dict) else None
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: text for name, text in pairs if isinstance(text, str)}


def _label(fields: Any, number: int) -> str:
    return annotations(fields).get(REF_NAME) or f"entry {number} of {INDEX}"
