# SPDX-License-Identifier: Apache-2.0
"""Everything a driver does, also with what must be refused; run as a program, on an empty root.

Prints how many operations came to an end, and how many were refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from tests.robustness.hostile import corpus
from tests.support import legacy, trees

NAME = RepositoryName(corpus.NAME)
EVIL = ("../../evil", "/tmp/evil", "a/../../../evil", "..", ".local-export/x", "a\0b", "x" * 300)  # noqa: S108


def operations(driver: LocalExportDriver) -> Iterator[Callable[[], Any]]:
    for content in corpus.BLOBS.values():
        yield partial(driver.upload_layer, NAME, [content])
    # Thousands of descriptors are thousands of the same calls.
    for number, odd in enumerate(odd for odd in corpus.CORPUS if "20k" not in odd.name):
        tag = Tag(f"odd-{number % 7}")  # tags move from one to another
        yield partial(driver.put_manifest, NAME, odd.content, odd.media_type, tag=tag)
    for image in images.corpus():
        yield partial(trees.put, driver, image)
    for evil in EVIL:
        yield partial(_put, driver, "ns/img", evil)
        yield partial(_upload, driver, evil)
        yield partial(_mount, driver, evil)
        yield partial(_delete, driver, evil)
        yield partial(_delete, driver, f"ns/img:{evil}")
        for field in ("config", "layers", "subject"):
            value: Any = corpus.LAYER.descriptor(digest=evil, mediaType=evil)
            content = corpus.text(corpus.image(**{field: [value] if field == "layers" else value}))
            yield partial(
                driver.put_manifest, NAME, content, media_types.OCI_MANIFEST, tag=Tag("evil")
            )
    for old in ("1.0", "2019"):
        yield partial(_put, driver, "old/img", f"{old}-new")
        yield partial(_delete, driver, f"old/img:{old}")
    for name in ("ns/img", *(image.repository.value for image in images.corpus())):
        repository = driver._tree.repository(RepositoryName(name))
        for tag in sorted(repository.tags()):
            yield partial(driver.delete, ImageRef(repository.name, tag))


# Names are values, which are made only when an operation is done: making them may refuse.


def _put(driver: LocalExportDriver, name: str, tag: str) -> None:
    trees.put(driver, images.image(name, tag, []))


def _upload(driver: LocalExportDriver, name: str) -> None:
    driver.upload_layer(RepositoryName(name), [b"x"])


def _mount(driver: LocalExportDriver, digest: str) -> None:
    driver.mount_layers(NAME, [Descriptor("a/b", Digest(digest), None)])


def _delete(driver: LocalExportDriver, image: str) -> None:
    driver.delete(ImageRef.parse(image))


def write_old_tree(root: Path) -> None:
    """Not part of what is watched: tripleo-common did this."""
    first = images.image("old/img", "1.0", [images.layer({"old": b"1"})])
    second = images.image("old/img", "2019", [images.layer({"old": b"2"})])
    legacy.write_image(root, first, "1.0")
    legacy.write_image(root, second, "2019")
    manifests = root / "v2/old/img/manifests"
    (manifests / "2019.type-map").unlink()
    legacy.write_symlink_tag(root, second, "2019")


def main(root: Path) -> None:
    done = refused = 0
    with LocalExportDriver(root) as driver:
        for operation in operations(driver):
            try:
                operation()
                done += 1
            except (errors.UploaderError, UnicodeEncodeError):
                refused += 1
    print(done, refused)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
