# SPDX-License-Identifier: Apache-2.0
"""What a repository holds while somebody changes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.reports.holdings import images
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.storage import Lock
from image_uploader_plugins.testing.images import corpus
from tests.support import trees

BASE = next(image for image in corpus() if image.repository.value == "base")


def test_what_looks_damaged_is_read_again_under_the_lock(
    root: Path, driver: LocalExportDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may just have been put, or deleted, in between."""
    trees.put(driver, BASE)
    content = root / "v2" / "base" / "manifests" / str(BASE.digest) / "index.json"
    away = content.with_name("away")
    content.rename(away)
    tree = Tree(root)
    assert [bool(image.problem) for image in images(tree, BASE.repository)] == [True]
    lock = tree.repository_lock

    @contextlib.contextmanager
    def mending(name: RepositoryName) -> Iterator[Lock]:
        with lock(name) as held:
            away.rename(content)
            yield held

    monkeypatch.setattr(tree, "repository_lock", mending)
    (found,) = images(tree, BASE.repository)
    assert (str(found), found.problem) == ("base:1.0", "")
