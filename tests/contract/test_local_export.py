# SPDX-License-Identifier: Apache-2.0
"""local-export keeps the contract."""

import tempfile
import unittest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import contract


class TestLocalExport(contract.DriverContract, unittest.TestCase):
    def make_driver(self) -> LocalExportDriver:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return LocalExportDriver(folder.name)
