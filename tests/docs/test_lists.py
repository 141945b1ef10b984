# SPDX-License-Identifier: Apache-2.0
"""The page about lists of images: its lists are read, and its tables are true."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from image_uploader_plugins import versions
from image_uploader_plugins.sync import schema
from image_uploader_plugins.sync.reading import read
from image_uploader_plugins.sync.semver_range import SemverRange
from tests.docs.console import SOURCE

PAGE = (SOURCE / "lists.rst").read_text()
_WORDS = re.compile(r"``([^`]+)``")


def block(after: str) -> str:
    """The indented lines behind some words of the page."""
    found = re.search(r"\n\n((?:   .*\n|\n)+)", PAGE.partition(after)[2])
    assert found
    return textwrap.dedent(found[1])


def rows(header: str) -> list[list[str]]:
    """The rows of the table whose first cell is ``header``."""
    table = PAGE.partition(f"   * - {header}\n")[2].partition("\n\n")[0]
    return [re.split(r"\n     - ", row) for row in re.split(r"\n   \* - ", table)[1:]]


FULL = block(":caption: images.yaml")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "quay.password").write_text("secret\n")
    monkeypatch.setenv("REGISTRY_PASSWORD", "secret")
    return tmp_path


@pytest.mark.parametrize(("text", "count"), [(block("and change it:"), 2), (FULL, 5)])
def test_the_lists_of_the_page(folder: Path, text: str, count: int) -> None:
    path = folder / "images.yaml"
    path.write_text(text)
    assert len(read([str(path)], []).entries) == count
    jsonschema.validate(yaml.safe_load(text), schema.loaded())


def keys(part: Any) -> Iterator[str]:
    """The names of all keys in a part of the schema."""
    if isinstance(part, dict):
        yield from part.get("properties", {})
        for inner in part.values():
            yield from keys(inner)
    if isinstance(part, list):
        for inner in part:
            yield from keys(inner)


def test_one_of_them_has_every_key() -> None:
    known = set(keys(schema.loaded()))
    assert len(known) > 20
    assert {key for key in known if not re.search(rf"\b{key}:", FULL)} == set()


def test_ranges_of_versions() -> None:
    table = rows("Range")
    assert len(table) == 9
    for ranges, inside, outside in table:
        for text in _WORDS.findall(ranges):
            found = SemverRange(text)
            assert all(map(found.has, _WORDS.findall(inside))), text
            assert not any(map(found.has, _WORDS.findall(outside))), text


def test_the_newest_versions() -> None:
    table = rows("Of these tags")
    assert len(table) == 4
    for tags, count, taken in table:
        assert versions.newest(_WORDS.findall(tags), int(count)) == set(_WORDS.findall(taken))
