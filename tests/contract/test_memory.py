# SPDX-License-Identifier: Apache-2.0
"""A driver that is nothing like a tree keeps the contract as well."""

import unittest
from collections.abc import Mapping

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.testing import contract
from image_uploader_plugins.testing.memory import MemoryDriver


class TestMemory(contract.DriverContract, unittest.TestCase):
    works_across_processes = False

    def make_driver(self) -> MemoryDriver:
        self.target = MemoryDriver(self.id())
        return self.target

    def sections(self) -> Mapping[str, Mapping[str, str]]:
        return {}

    def damage(self, digest: Digest) -> bool:
        for repository in self.target.repositories.values():
            if digest in repository.manifests:
                self.skipTest("a manifest in memory is not read again")
            if digest in repository.blobs:
                repository.blobs[digest] = repository.blobs[digest][:-1]
        return True

    def stored_manifest(self, name: RepositoryName, digest: Digest) -> bytes:
        return self.target.repositories[name].manifests[digest].content
