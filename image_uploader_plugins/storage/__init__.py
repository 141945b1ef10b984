"""Where bytes become visible; the only module that touches the disk.

Everything published goes one way: a private temporary file in the tree's own
state directory, write, set owner and mode, fsync, rename into place, fsync the
directory.  Every system call that changes something passes through
Storage.call, so each is one point at which tests can fail it.

Paths are relative to the root and are walked folder by folder without
following symbolic links, so none leads out of the tree.
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
