# SPDX-License-Identifier: Apache-2.0
"""The contract of UploaderDriver as a test suite, for the authors of drivers.

Derive from DriverContract and unittest.TestCase, and say how to make a driver
on a fresh target::

    class TestMyDriver(contract.DriverContract, unittest.TestCase):
        def make_driver(self):
            return MyDriver(...)

The suite uses a driver through its methods. For everything else there are hooks,
which the driver's author fills in: ``damage``, ``stored_manifest``,
``make_broken_driver``, ``sections`` and ``works_across_processes``. A test whose
hook is not filled in is skipped, and says so.

Each driver's own tests must prove three things: that stored content survives a
power cut once the method has returned, that a tag moves atomically and last, and
that a delete removes names before content.
"""

from __future__ import annotations

import concurrent.futures
import gzip
import json
import multiprocessing
import pickle
import tempfile
import time
import unittest
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from oslo_config import cfg

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import Content, UploaderDriver
from image_uploader_plugins.manifest import Descriptor
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image

HERE = RepositoryName("contract/here")
THERE = RepositoryName("contract/there")
TAG = Tag("1.0")
BLOB = gzip.compress(b"layer" * 1000, mtime=0)
DIGEST = Digest.of(BLOB)
# Some drivers keep nothing of small blobs.
_PIECE = 1024 * 1024
LARGE = bytes(range(256)) * (4 * _PIECE // 256)
LAYER = Descriptor(media_types.OCTET_STREAM, DIGEST, len(BLOB))


def untouchable() -> Iterator[bytes]:
    """Yield no chunks: fail the test when one is asked for."""
    raise AssertionError("chunks were consumed")
    yield b""


def described(digest: Digest, size: int | None = None) -> Descriptor:
    """Return a descriptor for mount_layers(); of any size where ``size`` is None."""
    return Descriptor(media_types.OCTET_STREAM, digest, size)


def breaking(error: Exception) -> Iterator[bytes]:
    """Yield the chunks of a transfer that ends with ``error``."""
    yield BLOB[:100]
    raise error


class Counted(Content):
    """Content that records its offsets in ``starts`` and, with ``end``, breaks off there."""

    def __init__(self, content: bytes, end: int | None = None) -> None:
        self._content = content
        self._end = end
        self.starts: list[int] = []

    def start_at(self, offset: int) -> Iterator[bytes]:
        self.starts.append(offset)
        for begin in range(offset, self._end or len(self._content), _PIECE):
            yield self._content[begin : begin + _PIECE]
        if self._end is not None:
            raise ConnectionError("broken off")


def put_in_a_process(driver: UploaderDriver, image: Image, tag: Tag) -> None:
    """Upload an image; called in another process, with a pickled driver."""
    with driver:
        for digest, content in image.blobs.items():
            driver.upload_layer(image.repository, [content], expected=digest)
        content, media_type = image.manifest.content, image.manifest.media_type
        driver.put_manifest(image.repository, content, media_type, tag=tag)


class DriverContract:
    """Tests for each sentence that binds a driver; a mix-in for a TestCase."""

    driver: UploaderDriver

    # -- hooks, which a driver's author fills in

    works_across_processes = True
    """False for a target that lives in the process, as one for tests may."""

    def sections(self) -> Mapping[str, Mapping[str, str]] | None:
        """Return options for from_conf(), by section and name; None to skip their test."""
        return None

    def damage(self, digest: Digest) -> bool:
        """Cut off the last byte of content wherever the target has it; return whether it has."""
        return False

    def stored_manifest(self, name: RepositoryName, digest: Digest) -> bytes | None:
        """Return a manifest as clients get it; None where it is missing, or clients get none."""
        return None

    def make_broken_driver(self) -> UploaderDriver | None:
        """Return a driver whose target cannot be written to; None to skip its tests."""
        return None

    def make_driver(self) -> UploaderDriver:
        """Return a driver on a new, empty target."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.driver = self.make_driver()

    def tearDown(self) -> None:
        self.driver.close()

    @property
    def case(self) -> unittest.TestCase:
        """Return this object as a TestCase, which it is mixed into."""
        assert isinstance(self, unittest.TestCase)  # noqa: S101 - how a mix-in is used
        return self

    # -- helpers of the tests

    def put(self, image: Image, tag: Tag | None = TAG) -> Digest:
        """Upload an image with all its parts; return its digest."""
        for part in image.walk():
            for digest, content in part.blobs.items():
                self.driver.upload_layer(part.repository, [content], expected=digest)
            self.driver.put_manifest(
                part.repository,
                part.manifest.content,
                part.manifest.media_type,
                tag=tag if part is image else None,
            )
        return image.digest

    def holds(self, name: RepositoryName, digest: Digest) -> bool:
        """Return whether a repository has a blob; mount it for that."""
        return bool(self.driver.mount_layers(name, [described(digest)]))

    def image(self, text: str = "one", **fields: Any) -> Image:
        """Return an image of one layer that contains ``text``."""
        return images.image(HERE.value, None, [images.layer({"file": text.encode()})], **fields)

    def delete(self, reference: Tag | Digest = TAG) -> tuple[set[Digest], set[Digest]]:
        """Delete an image; return the digests of the removed manifests and blobs."""
        deletion = self.driver.delete(ImageRef(HERE, reference))
        return set(deletion.manifests), set(deletion.blobs)

    # -- upload_layer

    def test_upload_describes_what_was_stored(self) -> None:
        stored = self.driver.upload_layer(
            HERE, [BLOB], expected=DIGEST, media_type=media_types.OCI_LAYER_GZIP
        )
        self.case.assertEqual(
            (stored.digest, stored.size, stored.media_type),
            (DIGEST, len(BLOB), media_types.OCI_LAYER_GZIP),
        )

    def test_upload_without_a_media_type_is_an_octet_stream(self) -> None:
        stored = self.driver.upload_layer(HERE, [BLOB])
        self.case.assertEqual(stored.media_type, media_types.OCTET_STREAM)

    def test_upload_without_a_digest_is_named_by_its_content(self) -> None:
        self.case.assertEqual(self.driver.upload_layer(HERE, [BLOB]).digest, DIGEST)

    def test_upload_under_sha512(self) -> None:
        expected = Digest.of(BLOB, "sha512")
        self.case.assertEqual(
            self.driver.upload_layer(HERE, [BLOB], expected=expected).digest, expected
        )
        self.case.assertTrue(self.holds(HERE, expected))

    def test_upload_of_nothing_is_the_empty_blob(self) -> None:
        stored = self.driver.upload_layer(HERE, [], expected=Digest.of(b""))
        self.case.assertEqual((stored.digest, stored.size), (Digest.of(b""), 0))

    def test_empty_chunks_mean_nothing(self) -> None:
        chunks = [b"", BLOB[:10], b"", BLOB[10:], b""]
        self.case.assertEqual(
            self.driver.upload_layer(HERE, chunks, expected=DIGEST).size, len(BLOB)
        )

    def test_upload_takes_chunks_once(self) -> None:
        chunks = iter([BLOB[:10], BLOB[10:]])
        self.driver.upload_layer(HERE, chunks, expected=DIGEST)
        self.case.assertEqual(list(chunks), [])

    def test_upload_of_what_is_there_consumes_nothing(self) -> None:
        self.driver.upload_layer(HERE, [BLOB], expected=DIGEST)
        stored = self.driver.upload_layer(HERE, untouchable(), expected=DIGEST)
        self.case.assertEqual((stored.digest, stored.size), (DIGEST, len(BLOB)))

    def test_upload_of_what_another_repository_holds_consumes_nothing(self) -> None:
        self.driver.upload_layer(THERE, [BLOB], expected=DIGEST)
        self.driver.upload_layer(HERE, untouchable(), expected=DIGEST)
        self.case.assertTrue(self.holds(HERE, DIGEST))

    def test_upload_of_what_is_there_with_its_size_consumes_nothing(self) -> None:
        self.driver.upload_layer(HERE, [BLOB], expected=DIGEST, size=len(BLOB))
        self.driver.upload_layer(HERE, untouchable(), expected=DIGEST, size=len(BLOB))

    def test_upload_of_another_size_is_refused_and_harms_nothing(self) -> None:
        for held in (False, True):
            for size in (0, len(BLOB) - 1, len(BLOB) + 1):
                with self.case.assertRaises(errors.SizeMismatch) as caught:
                    self.driver.upload_layer(HERE, [BLOB], expected=DIGEST, size=size)
                self.case.assertEqual(caught.exception.expected, size)
                self.case.assertEqual(self.holds(HERE, DIGEST), held)
            self.driver.upload_layer(HERE, [BLOB], expected=DIGEST)

    def test_wrong_content_is_refused_and_not_stored(self) -> None:
        with self.case.assertRaises(errors.DigestMismatch) as caught:
            self.driver.upload_layer(HERE, [b"other"], expected=DIGEST)
        self.case.assertEqual(
            (caught.exception.expected, caught.exception.actual), (DIGEST, Digest.of(b"other"))
        )
        self.case.assertFalse(self.holds(HERE, DIGEST))
        self.case.assertFalse(self.holds(HERE, Digest.of(b"other")))

    def test_errors_of_the_chunks_pass_unchanged(self) -> None:
        for error in (OSError(28, "not ours"), ValueError("theirs"), MemoryError()):
            with self.case.assertRaises(type(error)) as caught:
                self.driver.upload_layer(HERE, breaking(error), expected=DIGEST)
            self.case.assertIs(caught.exception, error)
            self.case.assertFalse(self.holds(HERE, DIGEST))

    def test_a_failed_upload_harms_nothing(self) -> None:
        self.driver.upload_layer(HERE, [BLOB], expected=DIGEST)
        with self.case.assertRaises(ValueError):
            self.driver.upload_layer(HERE, breaking(ValueError()))
        self.case.assertTrue(self.holds(HERE, DIGEST))

    def test_content_that_can_begin_later_is_stored_whole(self) -> None:
        content = Counted(LARGE)
        stored = self.driver.upload_layer(HERE, content, expected=Digest.of(LARGE))
        self.case.assertEqual((stored.size, content.starts), (len(LARGE), [0]))

    def test_an_upload_that_broke_off_may_go_on(self) -> None:
        digest = Digest.of(LARGE)
        for end in (2 * _PIECE, 3 * _PIECE):
            broken = Counted(LARGE, end)
            with self.case.assertRaises(ConnectionError):
                self.driver.upload_layer(HERE, broken, expected=digest, size=len(LARGE))
            self.case.assertFalse(self.holds(HERE, digest))
            self.case.assertLessEqual(max(broken.starts), end)
        content = Counted(LARGE)
        stored = self.driver.upload_layer(HERE, content, expected=digest, size=len(LARGE))
        self.case.assertEqual((stored.digest, stored.size), (digest, len(LARGE)))
        self.case.assertLessEqual(max(content.starts), 3 * _PIECE)

    def test_what_was_kept_of_an_upload_is_verified_with_the_rest(self) -> None:
        digest = Digest.of(LARGE)
        with self.case.assertRaises(ConnectionError):
            wrong = Counted(bytes(len(LARGE)), 2 * _PIECE)
            self.driver.upload_layer(HERE, wrong, expected=digest, size=len(LARGE))
        content = Counted(LARGE)
        self.driver.upload_layer(HERE, content, expected=digest, size=len(LARGE))
        self.case.assertEqual(content.starts[-1], 0)
        self.case.assertTrue(self.holds(HERE, digest))

    def test_chunks_that_cannot_begin_later_are_taken_from_the_first_on(self) -> None:
        digest = Digest.of(LARGE)
        with self.case.assertRaises(ConnectionError):
            self.driver.upload_layer(HERE, Counted(LARGE, 2 * _PIECE), expected=digest)
        stored = self.driver.upload_layer(HERE, iter([LARGE]), expected=digest)
        self.case.assertEqual(stored.size, len(LARGE))

    # -- mount_layers

    def test_mount_leaves_out_what_nobody_holds(self) -> None:
        self.case.assertEqual(self.driver.mount_layers(HERE, [LAYER]), frozenset())

    def test_mount_from_a_named_source(self) -> None:
        self.driver.upload_layer(THERE, [BLOB], expected=DIGEST)
        mounted = self.driver.mount_layers(HERE, [LAYER], {DIGEST: THERE})
        self.case.assertEqual(mounted, {DIGEST})

    def test_mount_knows_other_repositories(self) -> None:
        self.driver.upload_layer(THERE, [BLOB], expected=DIGEST)
        absent = described(Digest.of(b"absent"), 6)
        self.case.assertEqual(self.driver.mount_layers(HERE, iter([LAYER, absent])), {DIGEST})

    def test_mount_ignores_an_unknown_source(self) -> None:
        self.case.assertEqual(self.driver.mount_layers(HERE, [LAYER], {DIGEST: THERE}), frozenset())

    def test_mounted_copies_live_on_their_own(self) -> None:
        image = self.image()
        self.put(image)
        layer = image.manifest.layers[0]
        self.driver.mount_layers(THERE, [layer])
        self.delete()
        self.case.assertTrue(self.holds(THERE, layer.digest))

    def test_mount_leaves_out_what_has_another_size(self) -> None:
        self.driver.upload_layer(THERE, [BLOB], expected=DIGEST)
        for check in (False, True):
            wrong = described(DIGEST, len(BLOB) - 1)
            mounted = self.driver.mount_layers(HERE, [wrong], {DIGEST: THERE}, check=check)
            self.case.assertEqual(mounted, frozenset())
        self.case.assertTrue(self.holds(THERE, DIGEST))

    def test_mount_of_what_is_intact_when_it_is_checked(self) -> None:
        self.driver.upload_layer(THERE, [BLOB], expected=DIGEST)
        for asked in (LAYER, described(DIGEST)):
            mounted = self.driver.mount_layers(HERE, [asked], check=True)
            self.case.assertEqual(mounted, {DIGEST})

    # -- put_manifest

    def test_every_kind_of_manifest(self) -> None:
        oci = images.image(HERE.value, None, [], oci=True)
        artifact = images.artifact(HERE.value, None, "application/vnd.example", b"data")
        children = [self.image(), self.image("two", architecture="arm64")]
        for image in (
            self.image(),
            oci,
            artifact,
            images.index(HERE.value, None, children),
            images.index(HERE.value, None, [oci], oci=True),
            images.index(HERE.value, None, [images.index(HERE.value, None, [oci], oci=True)]),
            images.index(HERE.value, None, [], oci=True),
        ):
            with self.case.subTest(image.manifest.media_type):
                self.put(image)

    def test_put_describes_what_was_stored(self) -> None:
        image = self.image()
        self.put(image)
        content, media_type = image.manifest.content, image.manifest.media_type
        stored = self.driver.put_manifest(HERE, content, media_type, tag=TAG)
        self.case.assertEqual(
            (stored.digest, stored.size, stored.media_type),
            (image.digest, len(content), media_type),
        )

    def test_put_under_sha512(self) -> None:
        image = self.image()
        self.put(image)
        expected = Digest.of(image.manifest.content, "sha512")
        stored = self.driver.put_manifest(
            HERE, image.manifest.content, image.manifest.media_type, expected=expected
        )
        self.case.assertEqual(stored.digest, expected)
        self.case.assertEqual(self.delete(expected)[0], {expected})

    def test_put_stores_the_config_it_is_given(self) -> None:
        image = self.image()
        config, layer = image.manifest.config, image.manifest.layers[0]
        assert config is not None  # noqa: S101 - for the type
        self.driver.upload_layer(HERE, [image.blobs[layer.digest]])
        self.driver.put_manifest(
            HERE,
            image.manifest.content,
            image.manifest.media_type,
            tag=TAG,
            config=image.blobs[config.digest],
        )
        self.case.assertTrue(self.holds(HERE, config.digest))

    def test_put_refuses_another_config(self) -> None:
        image = self.image()
        for digest, content in image.blobs.items():
            self.driver.upload_layer(HERE, [content], expected=digest)
        with self.case.assertRaises(errors.ContentMismatch):
            self.driver.put_manifest(
                HERE, image.manifest.content, image.manifest.media_type, tag=TAG, config=b"{}"
            )
        self.assert_absent(TAG)

    def test_put_refuses_content_that_is_not_what_was_expected(self) -> None:
        image = self.image()
        with self.case.assertRaises(errors.DigestMismatch):
            self.driver.put_manifest(
                HERE, image.manifest.content, image.manifest.media_type, expected=DIGEST
            )
        self.assert_absent(image.digest)

    def test_put_refuses_absent_blobs(self) -> None:
        image = self.image()
        with self.case.assertRaises(errors.BlobUnknown) as caught:
            self.driver.put_manifest(
                HERE, image.manifest.content, image.manifest.media_type, tag=TAG
            )
        self.case.assertEqual(set(caught.exception.digests), set(image.blobs))
        self.assert_absent(TAG)

    def test_put_refuses_a_wrong_size(self) -> None:
        image = self.image()
        for digest, content in image.blobs.items():
            self.driver.upload_layer(HERE, [content], expected=digest)
        size = b'"size": %d' % (image.manifest.layers[0].size or 0)
        content = image.manifest.content.replace(size, b'"size": 7')
        with self.case.assertRaises(errors.BlobUnknown):
            self.driver.put_manifest(HERE, content, image.manifest.media_type, tag=TAG)
        self.assert_absent(TAG)

    def test_put_exempts_blobs_with_urls(self) -> None:
        foreign = Blob(b"elsewhere", media_types.OCI_LAYER_GZIP)
        image = images.image(HERE.value, None, [], oci=True)
        layers = (
            b'"layers": [{"mediaType": "%s", "digest": "%s", "size": 9, "urls": ["https://x"]}]'
        )
        content = image.manifest.content.replace(
            b'"layers": []', layers % (foreign.media_type.encode(), str(foreign.digest).encode())
        )
        for digest, blob in image.blobs.items():
            self.driver.upload_layer(HERE, [blob], expected=digest)
        self.driver.put_manifest(HERE, content, image.manifest.media_type, tag=TAG)
        self.delete()

    def test_put_refuses_what_is_no_manifest(self) -> None:
        for content in (b"", b"[]", b"\xff", b'{"schemaVersion": 2}', b"[" * 100000):
            with self.case.subTest(content[:20]), self.case.assertRaises(errors.ManifestInvalid):
                self.driver.put_manifest(HERE, content, media_types.OCI_MANIFEST, tag=TAG)
        self.assert_absent(TAG)

    def test_put_refuses_another_type(self) -> None:
        image = self.image()
        with self.case.assertRaises(errors.ManifestInvalid):
            self.driver.put_manifest(HERE, image.manifest.content, media_types.OCI_INDEX, tag=TAG)
        self.assert_absent(TAG)

    def test_putting_the_same_again_succeeds(self) -> None:
        image = self.image()
        self.case.assertEqual(self.put(image), self.put(image))

    def test_put_without_a_tag_stays_until_it_is_deleted_by_digest(self) -> None:
        image = self.image()
        self.put(image, None)
        self.put(self.image("other"), Tag("other"))
        self.case.assertNotIn(image.digest, self.delete(Tag("other"))[0])
        self.case.assertEqual(self.delete(image.digest)[0], {image.digest})

    def test_put_stores_byte_for_byte(self) -> None:
        image = self.image()
        content = b" " + image.manifest.content + b"\n"
        for digest, blob in image.blobs.items():
            self.driver.upload_layer(HERE, [blob], expected=digest)
        put = self.driver.put_manifest(HERE, content, image.manifest.media_type, tag=TAG)
        self.case.assertEqual(put.digest, Digest.of(content))
        self.case.assertIn(self.stored_manifest(HERE, put.digest), (None, content))

    def test_what_is_left_out_changes_nothing_else(self) -> None:
        children = [self.image(), self.image("two", architecture="arm64")]
        index = images.index(HERE.value, None, children)
        self.put(children[0], None)
        for left in ({children[1].digest}, set()):
            content = index.manifest.content
            self.driver.put_manifest(HERE, content, index.manifest.media_type, tag=TAG)
            self.driver.leave_out(HERE, index.digest, left)
        self.case.assertEqual(self.delete()[0], {index.digest, children[0].digest})

    def test_what_is_left_out_is_told(self) -> None:
        child = self.image()
        index = images.index(HERE.value, None, [child, self.image("two", architecture="arm64")])
        listed = [entry.digest for entry in index.manifest.manifests]
        self.put(index)
        if self.driver.left_out(HERE, index.digest) is None:
            self.case.skipTest("the driver does not record what is left out")
        for left in (listed, listed[:1], []):
            self.driver.leave_out(HERE, index.digest, left)
            self.put(index)
            self.case.assertEqual(self.driver.left_out(HERE, index.digest), set(left))
            self.case.assertIn(
                self.driver.held_manifest(HERE, index.digest, tag=TAG), (None, index.manifest)
            )
        self.driver.leave_out(HERE, index.digest, listed)
        self.delete()
        self.driver.leave_out(HERE, index.digest, listed)
        self.put(index)
        self.case.assertEqual(self.driver.left_out(HERE, index.digest), frozenset())

    def test_children_may_arrive_later(self) -> None:
        child = self.image()
        index = images.index(HERE.value, None, [child])
        self.driver.put_manifest(HERE, index.manifest.content, media_types.DOCKER_LIST, tag=TAG)
        self.put(child, None)
        self.case.assertEqual(self.delete()[0], {index.digest, child.digest})

    # -- delete

    def test_delete_by_tag(self) -> None:
        image = self.image()
        self.put(image)
        self.case.assertEqual(self.delete(), ({image.digest}, set(image.blobs)))
        self.assert_absent(TAG)
        self.assert_absent(image.digest)

    def test_delete_by_digest_takes_the_tags_along(self) -> None:
        image = self.image()
        self.put(image)
        self.put(image, Tag("latest"))
        self.case.assertEqual(self.delete(image.digest)[0], {image.digest})
        self.assert_absent(TAG)
        self.assert_absent(Tag("latest"))

    def test_delete_says_what_was_freed(self) -> None:
        image = self.image()
        self.put(image)
        deletion = self.driver.delete(ImageRef(HERE, TAG))
        content = len(image.manifest.content) + sum(map(len, image.blobs.values()))
        self.case.assertEqual(deletion.bytes_freed, content)

    def test_delete_of_a_shared_blob_frees_nothing(self) -> None:
        image = self.image()
        self.put(image)
        for digest in image.blobs:
            self.driver.mount_layers(THERE, [described(digest)])
        deletion = self.driver.delete(ImageRef(HERE, TAG))
        self.case.assertEqual(deletion.bytes_freed, len(image.manifest.content))

    def test_delete_of_an_absent_image(self) -> None:
        self.assert_absent(TAG)
        self.assert_absent(DIGEST)
        self.put(self.image())
        self.assert_absent(Tag("other"))
        self.assert_absent(DIGEST)

    def test_delete_spares_what_another_tag_needs(self) -> None:
        base = images.layer({"base": b"base"})
        one = images.image(HERE.value, None, [base, images.layer({"one": b"1"})])
        two = images.image(HERE.value, None, [base, images.layer({"two": b"2"})])
        self.put(one)
        self.put(two, Tag("2.0"))
        deleted = self.delete()
        self.case.assertEqual(deleted, ({one.digest}, set(one.blobs) - set(two.blobs)))
        self.put(two)

    def test_delete_of_one_of_two_tags_spares_the_image(self) -> None:
        self.put(self.image())
        self.put(self.image(), Tag("2.0"))
        self.case.assertEqual(self.delete(), (set(), set()))

    def test_delete_of_an_index_takes_its_children_along(self) -> None:
        children = [self.image(), self.image("two", architecture="arm64")]
        index = images.index(HERE.value, None, children)
        self.put(index)
        self.case.assertEqual(self.delete()[0], {index.digest, *(c.digest for c in children)})

    def test_delete_spares_what_an_index_needs(self) -> None:
        child = self.image()
        index = images.index(HERE.value, None, [child])
        self.put(index)
        self.put(child, Tag("child"))
        self.case.assertEqual(self.delete(Tag("child")), (set(), set()))
        self.case.assertEqual(self.delete()[0], {index.digest, child.digest})

    def test_delete_spares_the_referrers_of_what_stays(self) -> None:
        subject, _ = self._referred()
        self.put(self.image("other"), Tag("other"))
        self.delete(Tag("other"))
        self.case.assertEqual(self.delete(Tag("signature")), (set(), set()))
        self.case.assertIn(subject.digest, self.delete()[0])

    def test_delete_takes_a_referrer_by_digest(self) -> None:
        subject, referrer = self._referred()
        self.case.assertEqual(self.delete(referrer.digest)[0], {referrer.digest})
        self.case.assertEqual(self.delete()[0], {subject.digest})

    def _referred(self) -> tuple[images.Image, images.Image]:
        subject = self.image()
        referrer = images.artifact(
            HERE.value, None, "application/vnd.example", b"sig", subject=subject.descriptor()
        )
        self.put(subject)
        self.put(referrer, Tag("signature"))
        return subject, referrer

    def test_delete_spares_uploads_in_flight(self) -> None:
        self.put(self.image("other"), Tag("other"))
        image = self.image()
        for digest, content in image.blobs.items():
            self.driver.upload_layer(HERE, [content], expected=digest)
        self.delete(Tag("other"))
        self.put_only(image)

    def test_delete_spares_what_was_mounted(self) -> None:
        self.put(self.image("other"), Tag("other"))
        image = self.image()
        for digest, content in image.blobs.items():
            self.driver.upload_layer(THERE, [content], expected=digest)
        self.driver.mount_layers(HERE, image.manifest.blobs())
        self.delete(Tag("other"))
        self.put_only(image)

    def test_delete_spares_nested_repositories(self) -> None:
        nested = RepositoryName(f"{HERE}/nested")
        image = self.image()
        self.put(image)
        for digest in image.blobs:
            self.driver.mount_layers(nested, [described(digest)])
        self.driver.put_manifest(nested, image.manifest.content, image.manifest.media_type, tag=TAG)
        self.delete()
        deletion = self.driver.delete(ImageRef(nested, TAG))
        self.case.assertEqual(deletion.manifests, (image.digest,))

    def test_a_moved_tag_gives_the_old_image_up(self) -> None:
        old, new = self.image("old"), self.image("new")
        self.put(old)
        self.put(new)
        self.case.assertEqual(self.delete()[0], {old.digest, new.digest})

    def test_upload_delete_upload(self) -> None:
        image = self.image()
        for _ in range(2):
            self.put(image)
            self.delete()
        self.put(image)

    # -- for reports and metrics, where the driver tells it

    def test_resolve_says_what_a_name_leads_to(self) -> None:
        old, new = self.image("old"), self.image("new")
        for image in (old, new):
            self.put(image)
            for reference in (TAG, image.digest):
                found = self.driver.resolve(ImageRef(HERE, reference))
                self.case.assertIn(found, (None, image.digest))

    def test_resolve_finds_nothing_where_there_is_nothing(self) -> None:
        self.put(self.image())
        for name, reference in ((HERE, Tag("other")), (HERE, DIGEST), (THERE, TAG)):
            self.case.assertIsNone(self.driver.resolve(ImageRef(name, reference)))
        self.delete()
        for reference in (TAG, self.image().digest):
            self.case.assertIsNone(self.driver.resolve(ImageRef(HERE, reference)))

    def test_present_is_what_the_repository_itself_holds(self) -> None:
        self.driver.upload_layer(HERE, [BLOB], expected=DIGEST)
        absent = described(Digest.of(b"absent"), 6)
        self.case.assertLessEqual(self.driver.present(HERE, [LAYER, absent]), {DIGEST})
        self.case.assertFalse(self.driver.present(THERE, [LAYER]))
        self.case.assertFalse(self.driver.present(HERE, [described(DIGEST, len(BLOB) + 1)]))

    def test_a_held_manifest_is_the_one_that_was_put(self) -> None:
        child, index = self._listed()
        for image, tag in ((child, None), (index, TAG)):
            found = self.driver.held_manifest(HERE, self.put(image, tag), tag=tag)
            if found:
                self.case.assertEqual(found, image.manifest)

    def test_a_manifest_is_not_held_under_another_name(self) -> None:
        old, new = self.image("old"), self.image("new")
        self.put(old)
        self.put(new, None)
        for name, digest, tag in (
            (HERE, new.digest, TAG),
            (HERE, old.digest, None),
            (HERE, old.digest, Tag("other")),
            (HERE, DIGEST, None),
            (THERE, old.digest, TAG),
        ):
            self.case.assertIsNone(self.driver.held_manifest(name, digest, tag=tag))

    def test_a_moved_tag_holds_what_it_leads_to(self) -> None:
        old, new = self.image("old"), self.image("new")
        self.put(old)
        self.put(new)
        self.case.assertIsNone(self.driver.held_manifest(HERE, old.digest, tag=TAG))
        self.delete()
        self.case.assertIsNone(self.driver.held_manifest(HERE, new.digest, tag=TAG))

    def test_a_held_manifest_has_the_type_that_it_was_put_with(self) -> None:
        fields = json.loads(self.image().manifest.content)
        del fields["mediaType"]
        content = json.dumps(fields).encode()
        for digest, blob in self.image().blobs.items():
            self.driver.upload_layer(HERE, [blob], expected=digest)
        stored = self.driver.put_manifest(HERE, content, media_types.DOCKER_MANIFEST, tag=TAG)
        found = self.driver.held_manifest(HERE, stored.digest, tag=TAG)
        if found:
            self.case.assertEqual(found.media_type, media_types.DOCKER_MANIFEST)

    def test_a_held_manifest_protects_nothing(self) -> None:
        image = self.image()
        self.driver.held_manifest(HERE, self.put(image), tag=TAG)
        self.case.assertEqual(self.delete()[1], set(image.blobs))

    def _listed(self) -> tuple[Image, Image]:
        child = self.image()
        return child, images.index(HERE.value, TAG.value, [child])

    def test_a_census_counts_what_is_there(self) -> None:
        image = self.image()
        self.put(image)
        self.put(image, Tag("other"))
        census = self.driver.census()
        if census:
            counts = (census.repositories, census.tags, census.blobs)
            self.case.assertEqual(counts, (1, 2, len(image.blobs)))
            content = [image.manifest.content, *image.blobs.values()]
            self.case.assertEqual(census.bytes_stored, sum(map(len, content)))
            self.case.assertEqual(census.bytes_shared, 0)

    def test_mountable_is_what_mounting_would_find(self) -> None:
        asked = [LAYER, described(Digest.of(b"absent")), described(DIGEST, len(BLOB) + 1)]
        found = self.driver.mountable(asked)
        if found is None:
            self.case.skipTest("the driver does not tell")
        self.case.assertEqual(found, frozenset())
        self.driver.upload_layer(THERE, [BLOB], expected=DIGEST)
        self.case.assertEqual(self.driver.mountable(asked[:2]), {DIGEST})
        self.case.assertEqual(self.driver.mountable(asked[2:]), frozenset())
        self.case.assertFalse(self.driver.present(HERE, [LAYER]))

    def test_tags_are_those_of_the_repository_itself(self) -> None:
        if self.driver.tags(HERE) is None:
            self.case.skipTest("the driver does not tell")
        self.case.assertEqual(self.driver.tags(HERE), frozenset())
        self.put(self.image())
        self.put(self.image("other"), Tag("other"))
        self.put(self.image("pinned"), None)
        self.case.assertEqual(self.driver.tags(HERE), {TAG, Tag("other")})
        self.case.assertEqual(self.driver.tags(THERE), frozenset())
        self.delete()
        self.case.assertEqual(self.driver.tags(HERE), {Tag("other")})

    def test_room_is_what_is_left(self) -> None:
        room = self.driver.room()
        if room is None:
            self.case.skipTest("the driver does not tell")
        self.case.assertGreater(room.bytes, 0)
        self.case.assertTrue(room.files is None or room.files > 0)

    def test_delete_of_several(self) -> None:
        image, other, kept = self.image(), self.image("other"), self.image("kept")
        self.put(image)
        self.put(other, Tag("other"))
        self.put(kept, Tag("kept"))
        asked: list[Tag | Digest] = [TAG, Tag("absent"), Tag("other"), Tag("kept")]

        def narrow(references: Collection[Tag | Digest]) -> list[Tag | Digest]:
            self.case.assertEqual(list(references), asked)
            return [reference for reference in references if reference != Tag("kept")]

        deletion = self.driver.delete_all(HERE, asked, narrow)
        self.case.assertEqual(set(deletion.manifests), {image.digest, other.digest})
        self.case.assertEqual(self.delete(Tag("kept"))[0], {kept.digest})

    def test_present_protects_nothing(self) -> None:
        image = self.image()
        self.put(image)
        self.driver.present(HERE, image.manifest.blobs())
        self.case.assertEqual(self.delete()[1], set(image.blobs))

    def test_a_census_tells_of_uploads_in_flight(self) -> None:
        self.put(self.image())
        before = self.driver.census()
        if before is None:
            self.case.skipTest("the driver does not count")
        self.case.assertIsNone(before.oldest_lease)
        self.driver.upload_layer(HERE, [BLOB], expected=DIGEST)
        after = self.driver.census()
        assert after is not None  # noqa: S101 - for the type
        assert after.oldest_lease is not None  # noqa: S101 - for the type
        self.case.assertAlmostEqual(after.oldest_lease, time.time(), delta=60)

    # -- damage, where the driver's author can bring it about

    def test_what_is_damaged_is_not_mounted_when_it_is_checked(self) -> None:
        self.driver.upload_layer(THERE, [BLOB], expected=DIGEST)
        self._damage(DIGEST)
        for asked in (LAYER, described(DIGEST)):
            mounted = self.driver.mount_layers(HERE, [asked], {DIGEST: THERE}, check=True)
            self.case.assertEqual(mounted, frozenset())

    def test_an_image_with_a_damaged_blob_is_not_held(self) -> None:
        for number, text in enumerate(("config", "layer")):
            image = self.image(text)
            self.put(image)
            self._damage(list(image.manifest.blobs())[number].digest)
            self.case.assertIsNone(self.driver.held_manifest(HERE, image.digest, tag=TAG))

    def test_a_damaged_manifest_is_not_held(self) -> None:
        image = self.image()
        self.put(image)
        self._damage(image.digest)
        self.case.assertIsNone(self.driver.held_manifest(HERE, image.digest, tag=TAG))

    def test_an_upload_replaces_what_is_damaged(self) -> None:
        self.driver.upload_layer(HERE, [BLOB], expected=DIGEST)
        self._damage(DIGEST)
        self.driver.upload_layer(HERE, [BLOB], expected=DIGEST, size=len(BLOB))
        self.case.assertEqual(self.driver.mount_layers(HERE, [LAYER], check=True), {DIGEST})

    def test_delete_beside_what_cannot_be_read_removes_nothing_more(self) -> None:
        image, other = self.image(), self.image("other")
        self.put(image)
        self.put(other, Tag("other"))
        self._damage(image.digest)
        with self.case.assertRaises((errors.ManifestInvalid, errors.StorageError)):
            self.delete(Tag("other"))
        for digest in {*image.blobs, *other.blobs}:
            self.case.assertTrue(self.holds(HERE, digest))

    def _damage(self, digest: Digest) -> None:
        if not self.damage(digest):
            self.case.skipTest("damage() is not filled in")

    # -- all of them

    def test_a_driver_is_set_up_from_options(self) -> None:
        sections = self.sections()
        if sections is None:
            self.case.skipTest("sections() is not filled in")
        conf = self._conf(sections)
        kind = type(self.driver)
        with kind.from_conf(conf) as driver:
            driver.upload_layer(HERE, [BLOB], expected=DIGEST)
        for group, options in kind.list_opts():
            for option in options:
                self.case.assertIn(option.dest, conf[group] if group else conf)

    def _conf(self, sections: Mapping[str, Mapping[str, str]]) -> cfg.ConfigOpts:
        lines = []
        for name, values in sections.items():
            lines += [f"[{name}]", *(f"{option} = {value}" for option, value in values.items())]
        conf = cfg.ConfigOpts()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "driver.conf"
            path.write_text("\n".join(lines) + "\n")
            conf([], project="contract", default_config_files=[str(path)])
        return conf

    def test_failures_of_the_target_are_errors_of_the_storage(self) -> None:
        driver = self.make_broken_driver()
        if driver is None:
            self.case.skipTest("make_broken_driver() is not filled in")
        with self.case.assertRaises(errors.StorageError):
            driver.upload_layer(HERE, [BLOB], expected=DIGEST)

    def test_as_a_context_manager_a_driver_closes_itself(self) -> None:
        self.put(self.image())
        with self.driver as driver:
            self.case.assertIs(driver, self.driver)
            driver.upload_layer(HERE, [BLOB], expected=DIGEST)
        self.case.assertIn(DIGEST, self.delete()[1])

    def test_processes(self) -> None:
        if not self.works_across_processes:
            self.case.skipTest("the target lives in this process")
        tags = [Tag(f"t{number}") for number in range(4)]
        # Not forked: a lock that another thread holds would stay locked in the child.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
            jobs = [
                pool.submit(put_in_a_process, self.driver, self.image(str(tag)), tag)
                for tag in tags
            ]
            for job in jobs:
                job.result()
        for tag in tags:
            self.case.assertEqual(self.delete(tag)[0], {self.image(str(tag)).digest})

    def test_a_pickled_driver_works_on_the_same_target(self) -> None:
        self.put(self.image())
        with pickle.loads(pickle.dumps(self.driver)) as copy:  # noqa: S301 - our own bytes
            self.case.assertEqual(
                copy.delete(ImageRef(HERE, TAG)).manifests, (self.image().digest,)
            )

    def test_threads(self) -> None:
        tags = [Tag(f"t{number}") for number in range(8)]
        image = self.image()
        with concurrent.futures.ThreadPoolExecutor(len(tags)) as pool:
            list(pool.map(lambda tag: self.put(image, tag), tags))
            list(pool.map(self.delete, tags[1:]))
        self.case.assertEqual(self.delete(tags[0])[0], {image.digest})

    def put_only(self, image: Image) -> None:
        """Put the manifest of an image, without its blobs."""
        content, media_type = image.manifest.content, image.manifest.media_type
        stored = self.driver.put_manifest(HERE, content, media_type, tag=TAG)
        self.case.assertEqual(stored.digest, image.digest)

    def assert_absent(self, reference: Tag | Digest) -> None:
        """Assert that there is no such image."""
        with self.case.assertRaises(errors.ImageUnknown):
            self.driver.delete(ImageRef(HERE, reference))
