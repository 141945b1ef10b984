# SPDX-License-Identifier: Apache-2.0
"""Files below a directory, the root, that are published whole and survive a power loss.

Everything is published in one way: a private temporary file in the state
folder, write, set owner and mode, flush, rename into place; sync() flushes the
folders. Every system call that changes published files passes through Folders.call, so
that tests can fail each of them.

Paths are relative to the root and are entered folder by folder without
following symbolic links, so that no path leads out of the root.

A Reader reads, a Storage also changes files, a Transaction collects changes and
makes them together, a DryRun notes what a Storage would change, a Snapshot does
so and looks at everything once. Looking is for those who change nothing. Nothing
here knows what the files are for.
"""

from image_uploader_plugins.storage import fork
from image_uploader_plugins.storage.dry_run import Change, DryRun
from image_uploader_plugins.storage.entries import File, Identity, Staged
from image_uploader_plugins.storage.folders import NotFound, Owner, Where, failed, mapped
from image_uploader_plugins.storage.growing import Growing, growing
from image_uploader_plugins.storage.locks import Lock
from image_uploader_plugins.storage.looking import Looking
from image_uploader_plugins.storage.places import Places, is_temporary
from image_uploader_plugins.storage.reader import Reader
from image_uploader_plugins.storage.rounds import Rounds
from image_uploader_plugins.storage.snapshot import Snapshot
from image_uploader_plugins.storage.storage import Storage
from image_uploader_plugins.storage.transaction import transaction
from image_uploader_plugins.storage.unique import unique
from image_uploader_plugins.storage.watch import Watch
from image_uploader_plugins.storage.writer import Writer

__all__ = [
    "Change",
    "DryRun",
    "File",
    "Growing",
    "Identity",
    "Lock",
    "Looking",
    "NotFound",
    "Owner",
    "Places",
    "Reader",
    "Rounds",
    "Snapshot",
    "Staged",
    "Storage",
    "Watch",
    "Where",
    "Writer",
    "failed",
    "fork",
    "growing",
    "is_temporary",
    "mapped",
    "transaction",
    "unique",
]
