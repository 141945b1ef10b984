# SPDX-License-Identifier: Apache-2.0
"""The page is part of a tree's foundation, and of what verify looks at."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_config import cfg

from image_uploader_plugins.local_export import options
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


def test_a_title_of_the_registry(root: Path) -> None:
    """Written into the page as text; who reads the same configuration finds it right."""
    title = "</title><script>alarm()</script> & \u6c34"
    with LocalExportDriver(root, title=title) as driver:
        trees.put(driver, images.image("ns/one", "1.0", [images.layer({"file": b"one"})]))
        copy.copy(driver).close()
    escaped = b"<title>&lt;/title&gt;&lt;script&gt;alarm()&lt;/script&gt; &amp; &#27700;</title>"
    assert (root / "index.html").read_bytes() == documents.PAGE.replace(
        b"<title>Container images</title>", escaped
    )
    conf = cfg.ConfigOpts()
    conf([])
    options.values(conf)
    conf.set_override("root", str(root), options.GROUP)
    conf.set_override("title", title, options.GROUP)
    assert not Verification(Tree.existing(conf)).report().findings
    LocalExportDriver.from_conf(conf).close()
    assert escaped in (root / "index.html").read_bytes()
    problems = [one.problem for one in Verification(Tree(root)).report().findings]
    assert problems == ["is not what it should be"]


def test_no_title_is_the_page_as_it_is() -> None:
    assert documents.page() == documents.page(" ") == documents.PAGE
    assert documents.PAGE.count(b"<title>Container images</title>") == 1
