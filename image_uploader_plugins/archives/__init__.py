"""Images as files, for the way to where no network leads: OCI layouts and what docker saves."""

from image_uploader_plugins.archives.opening import open_archive
from image_uploader_plugins.archives.source import Archive, Entry

__all__ = ["Archive", "Entry", "open_archive"]
