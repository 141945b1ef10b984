"""The seam to tripleo-common 18.0.0, the only part of this package that knows it.

``register`` gives one ImageUploadManager a target of ours, ``install`` every
manager that is made from then on; ``upload_files`` and ``prepare`` run the
host's two flows with ``uploader:`` honoured entry by entry.
"""

from image_uploader_plugins.runs.journal import Journal, Observer
from image_uploader_plugins.tripleo.manager import install, register, uninstall
from image_uploader_plugins.tripleo.prepare import prepare, upload_files
from image_uploader_plugins.tripleo.uploader import PluginImageUploader

__all__ = [
    "Journal",
    "Observer",
    "PluginImageUploader",
    "install",
    "prepare",
    "register",
    "uninstall",
    "upload_files",
]
