# SPDX-License-Identifier: Apache-2.0
"""What a tree must look like to whoever reads it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.local_export.layout import RepositoryLayout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Report, Verification, repair
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.testing.images import Image


def held(root: Path, layout: RepositoryLayout) -> set[str]:
    """The digests of the manifests and blobs of a repository that are there, by sha256."""
    folders = [root / layout.blobs, root / layout.manifests]
    found = [path.name.removesuffix(".gz") for folder in folders for path in folder.iterdir()]
    return {name for name in found if name.startswith("sha256:") and "type-map" not in name}


def put(driver: UploaderDriver, image: Image, tag: str | None = None) -> Digest:
    """An image with all its parts, under ``tag`` or its own."""
    for part in image.walk():
        for digest, content in part.blobs.items():
            driver.upload_layer(part.repository, [content], expected=digest)
        name = (Tag(tag) if tag else image.tag) if part is image else None
        driver.put_manifest(
            part.repository, part.manifest.content, part.manifest.media_type, tag=name
        )
    return image.digest


def put_in(root: Path, image: Image, tag: str | None = None) -> Digest:
    """put() by a driver that has ended: else what it has left goes whenever it is collected."""
    with LocalExportDriver(root) as driver:
        return put(driver, image, tag)


def copy(source: Path, target: Path) -> None:
    """A tree again, with what is linked in it, and its times."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def described(*digests: Digest) -> list[Descriptor]:
    """Blobs as they are asked for by whoever does not know their sizes."""
    return [Descriptor("application/octet-stream", digest, None) for digest in digests]


def catalog(root: Path) -> list[str]:
    names: list[str] = json.loads((root / "v2" / "_catalog").read_bytes())["repositories"]
    return names


def tags(root: Path, name: str) -> list[str]:
    fields = json.loads((root / "v2" / name / "tags" / "list").read_bytes())
    assert fields["name"] == name
    found: list[str] = fields["tags"]
    return found


def served(root: Path) -> dict[str, bytes | str]:
    """Every path below v2, with its bytes or where its link leads."""
    return {
        str(path.relative_to(root)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted((root / "v2").rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def mended(root: Path) -> Report:
    """What is left after one repair."""
    tree = Tree(root)
    try:
        verification = Verification(tree)
        return repair(verification, verification.report())
    finally:
        tree.close()


def problems(root: Path) -> list[str]:
    """What is wrong with a tree: names that lie, names that lead nowhere, lists that disagree."""
    return [*lying(root), *_dangling(root), *_disagreeing(root)]


def lying(root: Path) -> Iterator[str]:
    for path in (root / "v2").rglob("*"):
        match = re.fullmatch(r"\.?(sha(?:256|512):[0-9a-f]+)(?:\.gz)?", path.name)
        if not match or path.is_symlink():
            continue
        digest = Digest(match[1])
        content = path / "index.json" if path.is_dir() else path
        if not content.exists():
            continue
        if Digest.of(content.read_bytes(), digest.algorithm) != digest:
            yield f"{path} does not hash to its name"


def _dangling(root: Path) -> Iterator[str]:
    for path in (root / "v2").rglob("manifests/*.type-map"):
        for digest in documents.parse_type_map(path.read_bytes()):
            folders = (path.parent / str(digest), path.parent / f".{digest}")
            if not any((folder / "index.json").exists() for folder in folders):
                yield f"{path} leads to {digest}, which is absent"
    for path in (root / "v2").rglob("*"):
        is_manifest = path.parent.name in (".tags", ".defaults", "manifests")
        content = path / "index.json" if is_manifest else path
        if path.is_symlink() and not content.exists():
            yield f"{path} leads nowhere"


def _disagreeing(root: Path) -> Iterator[str]:
    names = set()
    for manifests in (root / "v2").rglob("manifests"):
        if not any(manifests.iterdir()):
            continue
        name = str(manifests.parent.relative_to(root / "v2"))
        names.add(name)
        found = {p.name.removesuffix(".type-map") for p in manifests.glob("[!.]*.type-map")}
        found = {tag for tag in found if ":" not in tag}
        links = {path.name for path in (manifests.parent / ".tags").glob("*")}
        for n, listed in paged(manifests.parent / ".pages", "tags").items():
            if sorted(found) != listed:
                yield f"{name}: tags {sorted(found)}, {n} by {n} {listed}"
        if sorted(found) != tags(root, name) or links != found:
            yield f"{name}: tags {sorted(found)}, listed {tags(root, name)}, linked {links}"
    for n, listed in paged(root / "v2" / ".catalog", "repositories").items():
        if sorted(names) != listed:
            yield f"names {sorted(names)}, {n} by {n} {listed}"
    if sorted(names) != catalog(root):
        yield f"catalog {catalog(root)}, on disk {sorted(names)}"


def paged(pages: Path, key: str) -> dict[str, list[str]]:
    """A list as clients get it that ask for so many and follow the pages, for all such numbers."""
    return {way.name: _walk(way, key) for way in (pages / ".few").glob("*")}


def _walk(division: Path, key: str) -> list[str]:
    found: list[str] = []
    last = ".start"
    while last != ".end":
        link = division / f"{last}+"
        if not link.is_symlink():
            return [*found, f"no page after {last}"]
        found += page(link, key)
        last = str(link.resolve().relative_to(division.resolve())).removesuffix("=")
        last = last.replace("@/", "")
    return found


def page(path: Path, key: str) -> list[str]:
    found: list[str] = json.loads(path.read_bytes())[key]
    return found
