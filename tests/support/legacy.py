# SPDX-License-Identifier: Apache-2.0
"""Trees as tripleo-common writes them, laid down by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from image_uploader_plugins.testing.images import Image


def write_blobs(root: Path, image: Image, *, suffix: str = ".gz") -> None:
    """Layers as ``<digest>.gz`` whatever they are, the config as ``<digest>``."""
    folder = root / "v2" / image.repository.value / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    config = image.manifest.config
    for digest, content in image.blobs.items():
        ending = "" if config and digest == config.digest else suffix
        (folder / f"{digest}{ending}").write_bytes(content)


def write_manifest(root: Path, image: Image) -> None:
    folder = root / "v2" / image.repository.value / "manifests" / str(image.digest)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").write_bytes(image.manifest.content)
    headers = {
        "Content-Type": image.manifest.media_type,
        "Docker-Content-Digest": image.digest,
        "ETag": image.digest,
    }
    lines = (f'Header set {key} "{value}"\n' for key, value in headers.items())
    (folder / ".htaccess").write_text("".join(lines))


def write_symlink_tag(root: Path, image: Image, tag: str) -> None:
    """A tag of 2019: a link to the manifest's folder, by its absolute path."""
    manifests = root / "v2" / image.repository.value / "manifests"
    (manifests / tag).symlink_to(manifests / str(image.digest))


def write_type_map(root: Path, image: Image, tag: str, types: Mapping[str, object]) -> None:
    """A tag of today: media types and the digests they lead to."""
    records = (
        f"Content-Type: {kind}\nURI: {digest}/index.json\n\n" for kind, digest in types.items()
    )
    manifests = root / "v2" / image.repository.value / "manifests"
    (manifests / f"{tag}.type-map").write_text(f"URI: {tag}\n\n" + "".join(records))


def write_lists(root: Path, images: Mapping[str, list[str]]) -> None:
    """tags/list and _catalog, unsorted and with spaces."""
    for name, tags in images.items():
        (root / "v2" / name / "tags").mkdir(exist_ok=True)
        text = json.dumps({"name": name, "tags": tags})
        (root / "v2" / name / "tags" / "list").write_text(text)
    (root / "v2" / "_catalog").write_text(json.dumps({"repositories": list(images)}))


def write_image(root: Path, image: Image, tag: str) -> None:
    """An image as tripleo-common 18.0.0 leaves it, lists excepted."""
    for part in image.walk():
        write_blobs(root, part)
        write_manifest(root, part)
    types: dict[str, object] = {image.manifest.media_type: image.digest}
    for child in image.children[:1]:
        types[child.manifest.media_type] = child.digest
    write_type_map(root, image, tag, types)
    write_lists(root, {image.repository.value: [tag]})
