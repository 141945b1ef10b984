# SPDX-License-Identifier: Apache-2.0
"""Which kind of archive something is, by what it holds."""

from __future__ import annotations

import posixpath
from pathlib import Path

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.archives import docker_archive, image_folders, oci_layout
from image_uploader_plugins.archives.archive import Archive
from image_uploader_plugins.archives.archive_files import Files, Folder
from image_uploader_plugins.archives.tar import STANDARD_INPUT, Tar
from image_uploader_plugins.text import shown


def open_archive(path: Path, *, sparse: bool = False) -> Archive:
    """Open the archive at ``path``, a directory, a tar, or ``-`` for standard input.

    The caller must close it. Raises ArchiveInvalid or StorageError.
    """
    is_folder = path != STANDARD_INPUT and path.is_dir()
    files: Files = Folder(path) if is_folder else Tar(path)
    try:
        return _archive(files, sparse)
    except BaseException:
        files.close()
        raise


def _archive(files: Files, sparse: bool) -> Archive:
    saved = files.size(docker_archive.LIST) is not None
    if files.size(oci_layout.VERSION_FILE) is not None:
        # Archives of docker since version 25 are both; only the layout has manifests.
        found = oci_layout.Layout(files, sparse=sparse)
        return _whole(found, files, sparse) if saved else found
    if saved and files.size(image_folders.VERSION_FILE) is None:
        return docker_archive.DockerArchive(files, sparse=sparse)
    if image_folders.holds_folders(files):
        return image_folders.ImageFolders(files, sparse=sparse)
    raise errors.ArchiveInvalid(
        files.path,
        f"is neither an OCI layout ({oci_layout.VERSION_FILE}) nor what docker save writes "
        f"({docker_archive.LIST}) nor folders of skopeo ({image_folders.VERSION_FILE})"
        + _hint(files),
    )


def _hint(files: Files) -> str:
    """Return a hint, "" for none, at an archive in a folder: somebody packed what it is in."""
    for name in files.names():
        folder, file = posixpath.split(name)
        if folder and file in (oci_layout.VERSION_FILE, docker_archive.LIST):
            return f"; there is one in {shown(folder)}: import that"
    return ""


def _whole(found: oci_layout.Layout, files: Files, sparse: bool) -> Archive:
    """Return the layout, or docker's archive beside it where its images lack layers.

    NOTE: pre-releases of docker 25 saved such layouts.
    """
    for descriptor in {entry.descriptor for entry in found.entries}:
        if descriptor.media_type in media_types.IMAGE_TYPES and found.holds(descriptor.digest):
            reason = found.disagreement(found.fetch(descriptor))
            if reason:
                saved = docker_archive.DockerArchive(files, sparse=sparse)
                saved.notes.append(
                    f"{descriptor.digest}: {reason}: taken from {docker_archive.LIST} instead"
                )
                return saved
    return found
