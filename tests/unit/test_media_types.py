"""Media types: each is stated once."""

from __future__ import annotations

import re
from pathlib import Path

import image_uploader_plugins
from image_uploader_plugins import media_types

PACKAGE = Path(image_uploader_plugins.__file__).parent
STATED = re.compile(r"[\"']application/(?:vnd\.(?:docker|oci)\.[a-z]|octet-stream|json)")


def test_no_other_module_states_one() -> None:
    stating = [p.name for p in PACKAGE.rglob("*.py") if STATED.search(p.read_text())]
    assert stating == ["media_types.py"]


def test_sets_share_nothing() -> None:
    sets = (media_types.SCHEMA1_TYPES, media_types.IMAGE_TYPES, media_types.INDEX_TYPES)
    assert sum(map(len, sets)) == len(media_types.MANIFEST_TYPES)
