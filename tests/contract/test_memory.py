# SPDX-License-Identifier: Apache-2.0
"""A driver that is nothing like a tree keeps the contract as well."""

import unittest

from image_uploader_plugins.testing import contract
from image_uploader_plugins.testing.memory import MemoryDriver


class TestMemory(contract.DriverContract, unittest.TestCase):
    def make_driver(self) -> MemoryDriver:
        return MemoryDriver(self.id())
