# SPDX-License-Identifier: Apache-2.0
"""What the contract cannot see: the files, the options, and damage."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from image_uploader_oci_layout.driver import OciLayoutDriver
from image_uploader_oci_layout.layout import REF_NAME
from image_uploader_plugins import errors, loader, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Deletion
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images

NAME = RepositoryName("edge/nova")


def image(text: str = "one") -> images.Image:
    return images.image(NAME.value, "1.0", [images.layer({"file": text.encode()})], oci=True)


def put(driver: OciLayoutDriver, image: images.Image, tag: str | None = "1.0") -> None:
    for digest, content in image.blobs.items():
        driver.upload_layer(NAME, [content], expected=digest)
    content, media_type = image.manifest.content, image.manifest.media_type
    driver.put_manifest(NAME, content, media_type, tag=Tag(tag) if tag else None)


class TestDriver(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.layout = self.root / "edge+nova"
        self.driver = OciLayoutDriver(self.root)
        self.addCleanup(self.driver.close)

    def blob(self, digest: Digest) -> Path:
        return self.layout / "blobs" / digest.algorithm / digest.encoded

    def entries(self) -> list[tuple[str, object]]:
        """Digest and annotations of what the index lists."""
        index = json.loads((self.layout / "index.json").read_bytes())
        return [(entry["digest"], entry.get("annotations")) for entry in index["manifests"]]

    def delete(self, reference: Tag | Digest) -> Deletion:
        return self.driver.delete(ImageRef(NAME, reference))

    def test_the_files_are_those_of_the_specification(self) -> None:
        one = image()
        put(self.driver, one)
        version = json.loads((self.layout / "oci-layout").read_bytes())
        self.assertEqual(version, {"imageLayoutVersion": "1.0.0"})
        self.assertEqual(self.entries(), [(str(one.digest), {REF_NAME: "1.0"})])
        contents = {one.digest: one.manifest.content, **one.blobs}
        for digest, content in contents.items():
            self.assertEqual(self.blob(digest).read_bytes(), content)
        self.assertEqual(len(list(self.layout.glob("blobs/*/*"))), len(contents))

    @unittest.skipUnless(shutil.which("skopeo"), "skopeo is missing: apt-get install skopeo")
    def test_skopeo_reads_it(self) -> None:
        put(self.driver, image())
        target = self.root / "copy"
        subprocess.run(
            ["skopeo", "copy", "--quiet", f"oci:{self.layout}:1.0", f"dir:{target}"], check=True
        )
        self.assertEqual((target / "manifest.json").read_bytes(), image().manifest.content)

    def test_what_was_put_without_a_tag_has_no_annotation(self) -> None:
        put(self.driver, image(), None)
        self.assertEqual(self.entries(), [(str(image().digest), None)])

    def test_nothing_is_left_of_an_upload_that_failed(self) -> None:
        with self.assertRaises(errors.DigestMismatch):
            self.driver.upload_layer(NAME, [b"other"], expected=Digest.of(b"this"))
        self.assertEqual(list((self.root / ".staging").iterdir()), [])

    def test_a_damaged_copy_is_not_mounted_and_is_replaced(self) -> None:
        digest = self.driver.upload_layer(NAME, [b"content"]).digest
        self.blob(digest).write_bytes(b"damaged")
        asked = [Descriptor(media_types.OCTET_STREAM, digest, None)]
        self.assertEqual(self.driver.mount_layers(RepositoryName("other"), asked), frozenset())
        self.driver.upload_layer(NAME, [b"content"], expected=digest)
        self.assertEqual(self.blob(digest).read_bytes(), b"content")

    def test_a_delete_removes_nothing_beside_what_it_cannot_read(self) -> None:
        one, two = image("one"), image("two")
        put(self.driver, one, "one")
        put(self.driver, two, "two")
        self.blob(one.digest).write_bytes(b"{}")
        with self.assertRaises(errors.ManifestInvalid):
            self.delete(Tag("two"))
        self.assertEqual(
            len(list(self.layout.glob("blobs/*/*"))), len({*one.blobs, *two.blobs}) + 2
        )
        self.assertEqual(set(self.delete(Tag("one")).manifests), {one.digest, two.digest})

    def test_a_lease_that_ran_out_protects_nothing(self) -> None:
        put(self.driver, image())
        killed = OciLayoutDriver(self.root, lease_timeout=0)
        digest = killed.upload_layer(NAME, [b"of a process that was killed"]).digest
        deletion = killed.delete(ImageRef(NAME, Tag("1.0")))
        self.assertIn(digest, deletion.blobs)

    def test_a_damaged_index_is_an_error_of_ours(self) -> None:
        put(self.driver, image())
        (self.layout / "index.json").write_bytes(b"{")
        with self.assertRaises(errors.ManifestInvalid):
            self.delete(Tag("1.0"))

    def test_errors_of_the_disk_name_the_path(self) -> None:
        self.layout.write_bytes(b"in the way")
        with self.assertRaises(errors.StorageError) as caught:
            self.driver.upload_layer(NAME, [b"content"])
        self.assertIn(str(self.layout), str(caught.exception))

    def test_processes(self) -> None:
        spawning = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=spawning) as pool:
            tags = [f"t{number}" for number in range(20)]
            list(pool.map(put, [self.driver] * 20, [image()] * 20, tags))
        self.assertEqual(len(self.entries()), 20)

    def test_the_root_is_an_option(self) -> None:
        file = self.root / "image-uploader.conf"
        file.write_text(
            f"[image_uploader]\ndriver = oci-layout\n[oci_layout]\nroot = {self.root}\n"
        )
        conf = loader.load_conf(config_files=[str(file)])
        put(OciLayoutDriver.from_conf(conf), image())
        self.assertTrue(self.layout.is_dir())

    def test_a_relative_root_is_refused(self) -> None:
        with self.assertRaises(errors.ConfigurationError):
            OciLayoutDriver("layouts")
