# SPDX-License-Identifier: Apache-2.0
"""What of a tree is chosen for an export."""

from __future__ import annotations

import shutil
from pathlib import Path

from image_uploader_plugins.archives.exporting.selection import selected
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.testing.images import corpus
from tests.support import trees

LIST = next(image for image in corpus() if image.repository.value == "multi/docker")


def test_the_tag_of_a_lost_list_is_none_of_its_images(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    with LocalExportDriver(root) as driver:
        trees.put(driver, LIST)
    shutil.rmtree(root / f"v2/{LIST.repository}/manifests/{LIST.digest}")
    tree = Tree(root)
    with selected(tree) as selection:
        assert selection.problems == [
            f"{LIST.repository}:{LIST.tag}: it leads to no manifest that is there"
        ]
        assert not any(f":{LIST.tag}" in str(entry) for entry in selection.entries)
    tree.close()
