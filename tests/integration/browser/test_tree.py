# SPDX-License-Identifier: Apache-2.0
"""The page is part of a tree's foundation, and of what verify looks at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification, repair
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.testing import images
from tests.support import trees


def put_one(root: Path) -> None:
    with LocalExportDriver(root) as driver:
        trees.put(driver, images.image("ns/one", "1.0", [images.layer({"file": b"one"})]))


def test_a_tree_has_it_and_others_may_read_it(root: Path) -> None:
    put_one(root)
    assert (root / "index.html").read_bytes() == documents.PAGE
    assert (root / "index.html").stat().st_mode & 0o777 == 0o644


def test_a_tree_from_before_gets_it(root: Path) -> None:
    put_one(root)
    (root / "index.html").unlink()
    put_one(root)
    assert (root / "index.html").read_bytes() == documents.PAGE


def test_one_that_is_right_is_left_alone(root: Path) -> None:
    put_one(root)
    before = (root / "index.html").stat()
    put_one(root)
    after = (root / "index.html").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda page: page.unlink(), "is missing"),
        (lambda page: page.write_bytes(documents.PAGE + b"<script>"), "is not what it should be"),
        (lambda page: page.chmod(0o600), "its mode is 0600"),
    ],
)
def test_verify_finds_and_mends_it(
    root: Path, harm: Callable[[Path], object], problem: str
) -> None:
    put_one(root)
    page = root / "index.html"
    harm(page)
    verification = Verification(Tree(root))
    report = verification.report()
    assert [(str(one.path), one.problem) for one in report.findings] == [("index.html", problem)]
    assert repair(verification, report).findings == ()
    assert page.read_bytes() == documents.PAGE
    assert page.stat().st_mode & 0o777 == 0o644
