# SPDX-License-Identifier: Apache-2.0
"""The contract, on a directory of its own for each test."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

from image_uploader_oci_layout.driver import OciLayoutDriver
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.testing import contract


class TestContract(contract.DriverContract, unittest.TestCase):
    def make_driver(self) -> OciLayoutDriver:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        return OciLayoutDriver(self.root)

    def damage(self, digest: Digest) -> bool:
        found = list(self.root.glob(f"*/blobs/*/{digest.encoded}"))
        for path in found:
            path.write_bytes(path.read_bytes()[:-1])
        return bool(found)

    def stored_manifest(self, name: RepositoryName, digest: Digest) -> bytes | None:
        (found,) = self.root.glob(f"{str(name).replace('/', '+')}/blobs/*/{digest.encoded}")
        return found.read_bytes()
