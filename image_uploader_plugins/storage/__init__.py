# SPDX-License-Identifier: Apache-2.0
"""Files below a directory, the root: what others see of them is whole, and survives a power loss.

What is published goes one way: a private temporary file in the state folder,
write, set owner and mode, flush, rename into place, flush the folder.  Every
system call that changes what is published passes through Folders.call, so each
is one point at which tests can fail it.

Paths are relative to the root and are walked folder by folder without
following symbolic links, so none leads out of it.

A Reader looks, a Storage changes as well, a DryRun says what a Storage would
change.  Nothing here knows what the files are for.
"""

from image_uploader_plugins.storage import fork
from image_uploader_plugins.storage.dry_run import Change, DryRun
from image_uploader_plugins.storage.entries import File, Staged
from image_uploader_plugins.storage.folders import NotFound, Owner, failed, mapped
from image_uploader_plugins.storage.growing import Growing, growing
from image_uploader_plugins.storage.locks import Lock
from image_uploader_plugins.storage.places import Places, is_temporary
from image_uploader_plugins.storage.reader import Reader
from image_uploader_plugins.storage.storage import Storage

__all__ = [
    "Change",
    "DryRun",
    "File",
    "Growing",
    "Lock",
    "NotFound",
    "Owner",
    "Places",
    "Reader",
    "Staged",
    "Storage",
    "failed",
    "fork",
    "growing",
    "is_temporary",
    "mapped",
]
