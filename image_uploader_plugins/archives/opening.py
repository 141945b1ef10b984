"""Which kind of archive something is, by what it holds."""

from __future__ import annotations

from pathlib import Path

from image_uploader_plugins import errors
from image_uploader_plugins.archives import docker, layout
from image_uploader_plugins.archives.files import Files, Folder
from image_uploader_plugins.archives.source import Archive
from image_uploader_plugins.archives.tar import Tar


def open_archive(path: Path, *, sparse: bool = False) -> Archive:
    """The archive at ``path``, a directory or a tar; whoever opens it closes it.

    Raises ArchiveInvalid or StorageError.
    """
    files: Files = Folder(path) if path.is_dir() else Tar(path)
    try:
        return _archive(files, sparse)
    except BaseException:
        files.close()
        raise


def _archive(files: Files, sparse: bool) -> Archive:
    # What docker saves since version 25 is both, and only the layout has its manifests.
    if files.size(layout.VERSION_FILE) is not None:
        return layout.Layout(files, sparse=sparse)
    if files.size(docker.LIST) is not None:
        return docker.DockerArchive(files, sparse=sparse)
    raise errors.ArchiveInvalid(
        files.path,
        f"is neither an OCI layout ({layout.VERSION_FILE}) nor what docker save writes "
        f"({docker.LIST})",
    )
