# SPDX-License-Identifier: Apache-2.0
"""The drawing of a tree, in the docstring of layout, is what kind_of() says and what is on disk."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, Tag
from image_uploader_plugins.testing import images
from tests.support import trees
from tests.support.content import everything

DIGEST = "sha256:" + "0" * 64
# What a word of the drawing stands for, and one example of it.
WORDS = {
    "name": (r"[a-z0-9./_-]+?", "ns/app"),
    "digest": (r"\.?sha(?:256|512):[0-9a-f]+", DIGEST),
    "type": (r"[a-z0-9.+-]+", ""),
    "tag": (r"[\w.-]+", "1.0"),
    "last": (r"[\w.-]+", "1.0"),
    "division": (r"(?:of-)?[0-9]+", "of-2"),
    "n": (r"[0-9]+", "7"),
    "algorithm": (r"sha(?:256|512)", "sha256"),
    "hex": (r"[0-9a-f]+", "0" * 64),
}
TYPES = {"manifests": next(iter(layout.TYPE_FILES.values())), ".referrers": "application+json"}
LINE = re.compile(r"^    (\S+)(?: -> \S+)? {1,}\S", re.MULTILINE)


def drawn() -> list[tuple[str, str]]:
    """Return the paths of the drawing, as it writes them, and their kinds."""
    found = []
    for match in LINE.finditer(layout.__doc__ or ""):
        path = match[1]
        kind = "folder" if path.endswith("/") else "link" if " -> " in match[0] else "file"
        found.append((path.rstrip("/"), kind))
    return found


def pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"<(\w+)>", path)
    text = "".join(WORDS[p][0] if i % 2 else re.escape(p) for i, p in enumerate(parts))
    return re.compile(text)


def example(path: str) -> str:
    folder = path.split("/")[2] if path.count("/") > 1 else ""
    words = {word: sample for word, (_, sample) in WORDS.items()} | {"type": TYPES.get(folder, "")}
    return re.sub(r"<(\w+)>", lambda match: words[match[1]], path)


@pytest.mark.parametrize(
    ("path", "kind"), [entry for entry in drawn() if entry[0].startswith("v2/<name>/")]
)
def test_what_is_drawn_is_known(path: str, kind: str) -> None:
    below = PurePosixPath(example(path.removeprefix("v2/<name>/")))
    if "<type>" in path:
        below = PurePosixPath(example(path)).relative_to("v2/ns/app")
    assert layout.kind_of(below) == kind


def test_what_is_on_disk_is_drawn(root: Path) -> None:
    """A tree of everything, and a list with so many tags that it has windows of every kind."""
    image = images.image("many", "v", [images.layer({"x": b""})])
    found = image.manifest
    with LocalExportDriver(root) as driver:
        for content in everything():
            trees.put(driver, content)
        trees.put(driver, image)
        tags = [Tag(f"v{number:02}") for number in range(60)]
        for tag in tags:
            driver.put_manifest(image.repository, found.content, found.media_type, tag=tag)
        for tag in (tags[7], tags[30]):
            driver.delete(ImageRef(image.repository, tag))
    patterns = [(pattern(path), kind) for path, kind in drawn()]
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if name.startswith((".local-export", "v2/.catalog/")) or (
            path.is_dir() and not path.is_symlink()
        ):
            continue
        kind = "link" if path.is_symlink() else "file"
        assert any(p.fullmatch(name) and k == kind for p, k in patterns), (name, kind)
