# SPDX-License-Identifier: Apache-2.0
"""Images as files, for the way to where no network leads: OCI layouts and what docker saves."""

from image_uploader_plugins.archives.archive import Archive, Entry
from image_uploader_plugins.archives.opening import open_archive

__all__ = ["Archive", "Entry", "open_archive"]
