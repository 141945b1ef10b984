# SPDX-License-Identifier: Apache-2.0
"""What is private, and which names are temporary."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from image_uploader_plugins.storage import Places, is_temporary
from image_uploader_plugins.storage.places import beside

PLACES = Places(PurePosixPath(".state"))


@pytest.mark.parametrize(
    ("path", "private"),
    [
        (".state", True),
        (".state/staging/0", True),
        ("v2/.state/file", False),
        (".states", False),
        (".", False),
    ],
)
def test_the_state_folder_and_what_is_in_it_is_private(path: str, private: bool) -> None:
    assert PLACES.is_private(PurePosixPath(path)) is private


def test_what_is_the_storages_own_is_private() -> None:
    assert all(map(PLACES.is_private, (PLACES.state, PLACES.staging, PLACES.locks)))


def test_a_temporary_name_is_one_of_besides() -> None:
    path = beside(PurePosixPath("v2/a/file"), "0123456789abcdef" * 2)
    assert path.parent == PurePosixPath("v2/a")
    assert is_temporary(path.name)
    for name in ("file", ".file", path.name[1:], path.name + "0", path.name.upper()):
        assert not is_temporary(name)
