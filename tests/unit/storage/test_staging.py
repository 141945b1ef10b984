# SPDX-License-Identifier: Apache-2.0

import os
from pathlib import Path, PurePosixPath

from image_uploader_plugins.storage import Places, Storage


def test_a_child_of_fork_stages_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """Its parent's goes with the parent."""
    storage = Storage(tmp_path / "root", Places(PurePosixPath(".state")))
    storage.make_root()
    ours = storage.stage([b"x"]).path.parent
    child = os.fork()
    if not child:
        theirs = storage.stage([b"y"]).path.parent
        os._exit(0 if theirs != ours else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert storage.stage([b"z"]).path.parent == ours
    storage.close()
