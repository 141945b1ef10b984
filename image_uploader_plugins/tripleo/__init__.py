# SPDX-License-Identifier: Apache-2.0
"""The seam to tripleo-common 18.0.0: nothing else in this package knows it.

tripleo-common finds out which images a deployment needs, and has an uploader
push them to a registry.  Here its uploaders are given drivers instead:

- ``register`` gives one ImageUploadManager a driver, ``install`` gives every
  manager that is made from then on all drivers that are installed;
- ``upload_files`` and ``prepare`` do what ``openstack overcloud container image
  upload`` and ``openstack tripleo container image prepare`` do, with the
  ``uploader:`` of each entry honoured.

What is tripleo-common's is called so, and comes in as ``Any``: it has no types.
Its exceptions are raised to it; ours are their causes.
"""

from image_uploader_plugins.runs.journal import Journal, Observer
from image_uploader_plugins.tripleo.image_prepare import prepare, upload_files
from image_uploader_plugins.tripleo.manager import install, register, uninstall
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
