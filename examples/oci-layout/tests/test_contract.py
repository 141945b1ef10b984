# SPDX-License-Identifier: Apache-2.0
"""The contract, on a directory of its own for each test."""

from __future__ import annotations

import tempfile
import unittest

from image_uploader_oci_layout.driver import OciLayoutDriver
from image_uploader_plugins.testing import contract


class TestContract(contract.DriverContract, unittest.TestCase):
    def make_driver(self) -> OciLayoutDriver:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return OciLayoutDriver(folder.name)
