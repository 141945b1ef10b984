# SPDX-License-Identifier: Apache-2.0
"""Folders with an image each, as ``skopeo sync --dest dir`` and ``podman save`` write them.

Source: containers-transports(5), "dir:path", and containers/image, directory/.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from image_uploader_plugins import errors, manifest, media_types
from image_uploader_plugins.archives.archive import Archive, Entry
from image_uploader_plugins.archives.archive_files import Files
from image_uploader_plugins.archives.names import is_host
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.text import shown

VERSION_FILE = "version"
MANIFEST = "manifest.json"

_VERSION = re.compile(rb"Directory Transport Version: 1\.\d+\n?")
_VERSION_LIMIT = 4096
_FILES_LIMIT = 1_000_000
# A blob, or a manifest that a list leads to; sha256 goes without saying.
_CONTENT = re.compile(r"(?:([a-z0-9]+)-)?([0-9a-f]{64,128})(?:\.manifest\.json)?")
_SIGNATURE = re.compile(r"(?:[a-z0-9-]+\.)?signature-\d+")


class ImageFolders(Archive):
    """Images that are called like their folders, ``[host/]name:tag``, at any depth.

    Raises ArchiveInvalid for a folder of another version, or with a broken manifest.
    """

    def __init__(self, files: Files, *, sparse: bool = False) -> None:
        super().__init__(files, sparse=sparse)
        self._places: dict[Digest, str] = {}
        found = _by_folder(files)
        for folder in sorted(folder for folder, names in found.items() if VERSION_FILE in names):
            self._add_folder(folder, found[folder])

    def place(self, digest: Digest) -> str | None:
        return self._places.get(digest)

    def digests(self) -> Iterator[Digest]:
        return iter(self._places)

    def _add_folder(self, folder: str, names: set[str]) -> None:
        path = posixpath.join(folder, MANIFEST)
        _check_version(self.files, posixpath.join(folder, VERSION_FILE))
        for name in names:
            held = _digest(name)
            if held:
                self._places.setdefault(held, posixpath.join(folder, name))
        content = self.files.read(path, manifest.SIZE_LIMIT)
        with self._blamed(f"{shown(path)}: "):
            parsed = Manifest.parse(content)
            digest = Digest.of(content)
        self._places[digest] = path
        descriptor = Descriptor(parsed.media_type, digest, len(content))
        # Without --scoped skopeo leaves out all but the last segment: it need not be Docker Hub's.
        entry = Entry(descriptor, self._image_name(folder), hub=False)
        if any(map(_SIGNATURE.fullmatch, names)):
            self.notes.append(f"{entry}: simple signing's signatures (signature-1) are left out")
        if parsed.media_type in media_types.SCHEMA1_TYPES:
            self.skipped.append(f"{entry} is of type {parsed.media_type}")
        else:
            self.add(entry)

    def _image_name(self, folder: str) -> str | None:
        """Return the folder's path, without what is before the host that is part of it."""
        if not folder:
            own = self.files.path.absolute().name
            return own if ":" in own and self.files.is_folder else None
        segments = folder.split("/")
        hosts = [number for number, text in enumerate(segments[:-1]) if is_host(text)]
        return "/".join(segments[hosts[0] if hosts else 0 :])


def holds_folders(files: Files) -> bool:
    """Tell whether there is the folder of an image anywhere."""
    return any(VERSION_FILE in names and MANIFEST in names for names in _by_folder(files).values())


def _by_folder(files: Files) -> dict[str, set[str]]:
    """Return for each folder its names that may be an image's."""
    found: dict[str, set[str]] = {}
    for number, path in enumerate(files.names(), 1):
        if number > _FILES_LIMIT:
            raise errors.ArchiveInvalid(files.path, f"has more than {_FILES_LIMIT} files")
        folder, name = posixpath.split(path)
        if name in (VERSION_FILE, MANIFEST) or _digest(name) or _SIGNATURE.fullmatch(name):
            found.setdefault(folder, set()).add(name)
    return found


def _digest(name: str) -> Digest | None:
    match = _CONTENT.fullmatch(name)
    try:
        return Digest(f"{match[1] or 'sha256'}:{match[2]}") if match else None
    except errors.InvalidReference:
        return None


def _check_version(files: Files, path: str) -> None:
    content = files.read(path, _VERSION_LIMIT)
    if not _VERSION.fullmatch(content):
        raise files.invalid(path, f"says {shown(content.decode('utf-8', 'replace'))}, 1.1 is known")
