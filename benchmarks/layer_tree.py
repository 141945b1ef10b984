# SPDX-License-Identifier: Apache-2.0
"""Fills a tree with layers, each in two repositories: ``layer_tree ROOT COUNT SIZE``."""

from __future__ import annotations

import json
import sys

from benchmarks import data
from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import trees


def main() -> None:
    """Put the images; print how many."""
    root, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with LocalExportDriver(root) as driver:
        for number in range(count):
            content = b"".join(data.noise(f"tree-{number}", size))
            layer = images.Blob(content, media_types.OCI_LAYER_GZIP)
            for name in (f"large/a{number}", f"large/b{number}"):
                trees.put(driver, images.image(name, "1.0", [layer], oci=True))
    json.dump(2 * count, sys.stdout)


if __name__ == "__main__":
    main()
