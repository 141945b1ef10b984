# SPDX-License-Identifier: Apache-2.0
"""Archives as tests need them: right, or wrong in one respect."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from image_uploader_plugins.archives import open_archive
from image_uploader_plugins.archives.exporting.exporter import Exporter, Outcome
from image_uploader_plugins.archives.importing.importer import inspect
from image_uploader_plugins.archives.importing.plan import Name, plan
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.patterns import Pattern
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import trees

Files = dict[str, bytes]

ONE, TWO = (images.layer({"file": text * 3000}, oci=True) for text in (b"one", b"two"))
IMAGE = images.image("ns/img", "1.0", [ONE, TWO], oci=True)
LIST = images.index(
    "ns/list",
    "1.0",
    [
        images.image("ns/list", None, [layer], oci=True, architecture=architecture)
        for layer, architecture in ((ONE, "amd64"), (TWO, "arm64"))
    ],
    oci=True,
)


# -- what is tested


def bring(
    path: Path, driver: UploaderDriver, *patterns: str, name: str | None = None, **options: Any
) -> list[str]:
    """Import; what the images are called then."""
    with contextlib.closing(open_archive(path, **options)) as archive:
        inspected = inspect(archive, plan(archive, patterns, Name.parse(name) if name else None))
        journal = Journal()
        inspected.copy_to(driver, "local-export", journal)
        return [record.source for record in journal.images]


def carry(
    root: Path, path: Path, *patterns: str, known: Iterable[Digest] = (), copied: bool = False
) -> Outcome:
    """Export."""
    with contextlib.closing(Tree(root)) as tree:
        return Exporter(tree, copied=copied).export(
            path, list(map(Pattern, patterns)), frozenset(known)
        )


def fill(root: Path, images: Iterable[Image]) -> Path:
    with LocalExportDriver(root) as driver:
        for image in images:
            trees.put(driver, image)
    return root


# -- archives


def blobs(images: Iterable[Image]) -> Files:
    """Manifests and blobs as a layout has them."""
    found: dict[Digest, bytes] = {}
    for image in images:
        for part in image.walk():
            found |= {part.digest: part.manifest.content, **part.blobs}
    return {f"blobs/{d.algorithm}/{d.encoded}": content for d, content in found.items()}


def layout(entries: Sequence[Mapping[str, Any]], content: Files) -> Files:
    """The files of a layout, the list first."""
    index = {"schemaVersion": 2, "manifests": list(entries)}
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **content,
    }


def entry(image: Image, name: str | None = None, **annotations: str) -> dict[str, Any]:
    if name is not None:
        annotations["org.opencontainers.image.ref.name"] = name
    return image.descriptor(annotations=annotations)


def docker_archive(image: Image, names: Sequence[str] | None, layers: Mapping[str, bytes]) -> Files:
    """What docker saved before version 25: ``layers`` by the folder each is in."""
    config = image.manifest.config
    assert config is not None
    return {
        f"{config.digest.encoded}.json": image.blobs[config.digest],
        **{f"{folder}/layer.tar": content for folder, content in layers.items()},
        **{f"{folder}/VERSION": b"1.0" for folder in layers},
        "manifest.json": json.dumps(
            [
                {
                    "Config": f"{config.digest.encoded}.json",
                    "RepoTags": names,
                    "Layers": [f"{folder}/layer.tar" for folder in layers],
                }
            ]
        ).encode(),
    }


def folder(path: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(
    path: Path,
    files: Mapping[str, bytes],
    more: Iterable[tuple[tarfile.TarInfo, bytes]] = (),
    mode: str = "w",
) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in (*(member(*item) for item in files.items()), *more):
            archive.addfile(info, io.BytesIO(content))
    return path
