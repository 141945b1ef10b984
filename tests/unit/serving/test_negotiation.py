# SPDX-License-Identifier: Apache-2.0
"""What an Accept takes, line by line of RFC 9110, 12.5.1."""

from __future__ import annotations

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.serving.negotiation import takes_no_list

IMAGE, OCI = media_types.DOCKER_MANIFEST, media_types.OCI_MANIFEST
LIST, INDEX = media_types.DOCKER_LIST, media_types.OCI_INDEX


@pytest.mark.parametrize(
    "accept",
    [
        IMAGE,
        OCI,
        f"{IMAGE}, {OCI}",
        IMAGE.upper(),
        f"{IMAGE};q=0.5",
        f"{IMAGE} ; v=1",
        f",, {IMAGE} ,",
        f"text/html, {IMAGE}",
        media_types.DOCKER_SCHEMA1_SIGNED,
        f"{IMAGE}, {LIST};q=0",
        f"{IMAGE}, {LIST};q=0.000, {INDEX} ; Q=0.",
        f"{IMAGE}, */*;q=0",
        f"{IMAGE}, application/*;q=0",
        f"*/*, {LIST};q=0, {INDEX};q=0",
        f'{IMAGE};a="x, {LIST}"',
        f'{IMAGE};a="\\"{LIST}, {INDEX}',
        f"{IMAGE}, x{LIST}, {LIST}x",
    ],
)
def test_no_list(accept: str) -> None:
    assert takes_no_list(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/*",
        "text/html",
        "application/json",
        f"{IMAGE}, {LIST}",
        f"{LIST}, {IMAGE}",
        f"{IMAGE}, {INDEX.upper()}",
        f"{IMAGE}, {LIST};q=0.001",
        f"{IMAGE}, {LIST};q=0, {LIST}",
        f"{IMAGE}, */*",
        f"{IMAGE}, */* ;q=0.1",
        f"{IMAGE}, application/*",
        f"{IMAGE};q=0",
        f"{IMAGE}, {LIST};q=0, */*",
        f'{IMAGE};a="b", {LIST}',
        f"x{IMAGE}",
    ],
)
def test_whoever_may_know_lists(accept: str) -> None:
    assert not takes_no_list(accept)


def test_a_field_costs_its_length() -> None:
    """Quotes that never end are read once: the cost does not grow with the square."""
    assert not takes_no_list('"' + '\\"' * 500_000)
    assert not takes_no_list('"a' * 500_001)
