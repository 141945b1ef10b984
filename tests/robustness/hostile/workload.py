"""Everything a driver does, also with what must be refused; run as a program, on an empty root.

Prints how many operations came to an end, and how many were refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from image_uploader_plugins import errors
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
        yield lambda content=content: driver.upload_layer(NAME, [content])
    # Thousands of descriptors are thousands of the same calls.
    for number, odd in enumerate(odd for odd in corpus.CORPUS if "20k" not in odd.name):
        tag = Tag(f"odd-{number % 7}")  # tags move from one to another
        yield lambda odd=odd, tag=tag: driver.put_manifest(
            NAME, odd.content, odd.media_type, tag=tag
        )
    for image in images.corpus():
        yield lambda image=image: trees.put(driver, image)
    for evil in EVIL:
        yield lambda evil=evil: trees.put(driver, images.image("ns/img", evil, []))
        yield lambda evil=evil: driver.upload_layer(RepositoryName(evil), [b"x"])
        yield lambda evil=evil: driver.mount_layers(NAME, [Descriptor("a/b", Digest(evil), None)])
        yield lambda evil=evil: driver.delete(ImageRef.parse(evil))
        yield lambda evil=evil: driver.delete(ImageRef.parse(f"ns/img:{evil}"))
        for field in ("config", "layers", "subject"):
            value: Any = corpus.LAYER.descriptor(digest=evil, mediaType=evil)
            content = corpus.text(corpus.image(**{field: [value] if field == "layers" else value}))
            yield lambda content=content: driver.put_manifest(
                NAME, content, corpus.manifest.OCI_MANIFEST, tag=Tag("evil")
            )
    for name, tag in (("old/img", "1.0"), ("old/img", "2019")):
        yield lambda name=name, tag=tag: trees.put(driver, images.image(name, f"{tag}-new", []))
        yield lambda name=name, tag=tag: driver.delete(ImageRef(RepositoryName(name), Tag(tag)))
    for name in ("ns/img", *(image.repository.value for image in images.corpus())):
        repository = driver._tree.repository(RepositoryName(name))
        for tag in sorted(repository.tags()):
            yield lambda name=name, tag=tag: driver.delete(ImageRef(RepositoryName(name), tag))


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
