# SPDX-License-Identifier: Apache-2.0
"""Which tags a choice takes from those that a registry has."""

from __future__ import annotations

import pytest

from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sync.tag_choice import chosen
from image_uploader_plugins.sync.wanted import TagChoice

HEX = "0123456789abcdef" * 4
ATTACHED = [f"sha256-{HEX}", f"sha256-{HEX}.sig", f"sha256-{HEX}.att", f"sha512-{HEX}.sbom"]
# As node-exporter's and nginx' are.
AVAILABLE = [
    *("latest", "master", "v1.8.0-rc.1", "v1.8.0", "v1.8.1", "v1.8.2", "v1.9.0", "v1.10.0"),
    *("1.27", "1.27.3", "1.27.2", "1.27-alpine", "1.27.3-alpine", "1.26.3", "1.26.3-alpine"),
]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (TagChoice(), ""),
        (TagChoice(names=(Tag("v1.8.0"), Tag("nowhere"))), ""),
        (TagChoice(globs=("v1.8.*",)), "v1.8.0 v1.8.0-rc.1 v1.8.1 v1.8.2"),
        (TagChoice(globs=("V1.8.*",)), ""),
        (TagChoice(globs=("v1.8.?", "mas*")), "master v1.8.0 v1.8.1 v1.8.2"),
        (TagChoice(regexes=(r"v1\.8",)), ""),
        (TagChoice(regexes=(r"v1\.[0-9]+\.0", "latest")), "latest v1.10.0 v1.8.0 v1.9.0"),
        (TagChoice(semver=">=1.8.2 <1.20"), "v1.10.0 v1.8.2 v1.9.0"),
        (TagChoice(semver="~1.27.3-0"), "1.27.3 1.27.3-alpine"),
        (TagChoice(semver="1.27-0"), "1.27 1.27-alpine 1.27.2 1.27.3 1.27.3-alpine"),
        (TagChoice(globs=("latest",), semver="1.26"), "1.26.3 latest"),
        (TagChoice(globs=("v*",), exclude=("*-rc*", "v1.8.*")), "v1.10.0 v1.9.0"),
        (TagChoice(globs=("v*",), newest=2), "v1.10.0 v1.9.0"),
        (TagChoice(globs=("v*",), newest=2, exclude=("v1.10*",)), "v1.8.2 v1.9.0"),
        (TagChoice(globs=("v*-rc*",), newest=1), "v1.8.0-rc.1"),
        (
            TagChoice(newest=1, exclude=("v*",)),
            "1.27 1.27-alpine 1.27.3 1.27.3-alpine",
        ),
        (TagChoice(newest=1, semver="<1.27"), "1.26.3"),
        (TagChoice(newest=9, globs=("latest",)), ""),
    ],
)
def test_what_is_chosen(choice: TagChoice, expected: str) -> None:
    for available in (AVAILABLE, AVAILABLE[::-1], AVAILABLE * 2):
        assert chosen(choice, available) == [Tag(text) for text in expected.split()]


@pytest.mark.parametrize(
    "choice", [TagChoice(all=True), TagChoice(globs=("*",)), TagChoice(regexes=(".*",))]
)
def test_what_signs_an_image_is_not_one(choice: TagChoice) -> None:
    found = chosen(choice, [*AVAILABLE, *ATTACHED])
    assert found == sorted(map(Tag, AVAILABLE))


def test_a_tag_that_only_looks_so_is_an_image() -> None:
    assert chosen(TagChoice(all=True), ["sha256-cafe"]) == [Tag("sha256-cafe")]
