# SPDX-License-Identifier: Apache-2.0
"""Questions that one module answers, for all others."""

from __future__ import annotations

import re

import pytest

from tests.support.checkout import PROJECT

PACKAGE = PROJECT / "image_uploader_plugins"


def found(pattern: str, folder: str = ".") -> set[str]:
    """The modules below a folder of the package in which a pattern is found."""
    return {
        str(path.relative_to(PACKAGE))
        for path in (PACKAGE / folder).rglob("*.py")
        if re.search(pattern, path.read_text())
    }


@pytest.mark.parametrize(
    ("pattern", "home"),
    [
        (r"\bfnmatch\b", "patterns.py"),
        (r"\bArgumentTypeError\b", "cli/arguments.py"),
        (r"image-uploader-plugins\[", "extras.py"),
        (r"layers uploaded", "runs/records.py"),
        (r'"kB"', "units.py"),
        (r"[\"']application/(?:vnd\.(?:docker|oci)\.[a-z]|octet-stream|json)", "media_types.py"),
        (r'"mediaType": ?\w', "manifest.py"),
        (r"\.links - ", "local_export/link_counts.py"),
        (r"\bdigests\[:?[01]:?1?\]", "local_export/graph.py"),
    ],
)
def test_it_is_answered_in_one_place(pattern: str, home: str) -> None:
    assert found(pattern) == {home}


def test_no_command_takes_a_lock_of_a_tree() -> None:
    assert found(r"\w_lock\(") != set()
    assert found(r"\w_lock\(", "cli") == set()


def test_a_tree_is_opened_in_one_place_for_all_commands() -> None:
    assert found(r"\bTree\.existing\(", "cli") == {"cli/local_tree.py"}


@pytest.mark.parametrize("folder", ["local_export", "serving", "archives", "cli"])
def test_no_path_of_the_tree_is_joined_but_in_layout(folder: str) -> None:
    """A name that was just read from a folder may be joined to it; no name that one knows."""
    known = r"""\w \/ (?:f?["']|[\w.]+\.value\b|layout\.[A-Z])"""
    # The files of clients are of no tree.
    assert found(known, folder) <= {"local_export/layout.py", "serving/clients.py"}
