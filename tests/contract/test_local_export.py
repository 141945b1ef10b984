# SPDX-License-Identifier: Apache-2.0
"""local-export keeps the contract."""

import os
import shutil
import tempfile
import unittest
from collections.abc import Mapping
from pathlib import Path

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.testing import contract


class TestLocalExport(contract.DriverContract, unittest.TestCase):
    def make_driver(self) -> LocalExportDriver:
        self.root = self._folder()
        return LocalExportDriver(self.root)

    def _folder(self) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    def sections(self) -> Mapping[str, Mapping[str, str]]:
        return {"local_export": {"root": str(self._folder())}}

    def damage(self, digest: Digest) -> bool:
        files = [path for path in self.root.rglob("*") if digest.encoded in str(path)]
        # Links to one file are cut once.
        inodes = {path.stat().st_ino: path for path in files if path.is_file()}
        for path in inodes.values():
            os.truncate(path, max(0, path.stat().st_size - 1))
        return bool(inodes)

    def stored_manifest(self, name: RepositoryName, digest: Digest) -> bytes | None:
        folder = self.root / "v2" / str(name) / "manifests" / str(digest)
        (content,) = folder.glob("index.*")
        return content.read_bytes()

    def make_broken_driver(self) -> LocalExportDriver:
        root = self._folder() / "root"
        driver = LocalExportDriver(root)
        shutil.rmtree(root)
        root.write_text("a file where the root should be")
        return driver
