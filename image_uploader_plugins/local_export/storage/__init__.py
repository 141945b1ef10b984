"""Where bytes become visible; the only module that touches the disk.

Everything published goes one way: a private temporary file in the tree's own
state directory, write, set owner and mode, fsync, rename into place, fsync the
directory.  Every system call that changes something passes through
Storage.call, so each is one point at which tests can fail it.

Paths are relative to the root and are walked folder by folder without
following symbolic links, so none leads out of the tree.
"""

from image_uploader_plugins.local_export.storage import fork
from image_uploader_plugins.local_export.storage.ground import (
    NotFound,
    Owner,
    failed,
    mapped,
)
from image_uploader_plugins.local_export.storage.growing import Growing, growing
from image_uploader_plugins.local_export.storage.locks import Lock
from image_uploader_plugins.local_export.storage.places import Places, is_temporary
from image_uploader_plugins.local_export.storage.reader import Reader
from image_uploader_plugins.local_export.storage.rehearsal import Change, Rehearsal
from image_uploader_plugins.local_export.storage.store import File, Staged, Storage

__all__ = [
    "Change",
    "File",
    "Growing",
    "Lock",
    "NotFound",
    "Owner",
    "Places",
    "Reader",
    "Rehearsal",
    "Staged",
    "Storage",
    "failed",
    "fork",
    "growing",
    "is_temporary",
    "mapped",
]
