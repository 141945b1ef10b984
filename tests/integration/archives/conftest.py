# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from tests.support import archives, content
from tests.support.clients import ctr, docker, podman
from tests.support.content import referrer

__all__ = ["ctr", "docker", "podman"]

ATTACHED = images.image("ns/img", "1.0", [images.layer({"file": b"one"})])
UNTAGGED = images.image("ns/img", None, [images.layer({"file": b"two"})])
REFERRER = referrer(ATTACHED, "application/vnd.example.sbom+json", "about")
SIGNATURE = referrer(REFERRER, "application/vnd.example.signature+json", "signature")
# It goes by its sha512 digest.
LONG = images.image("long/digest", "1.0", [images.layer({"file": b"one"})])
# Everything that a layout has a place for.
EVERYTHING = [
    *(i for i in content.everything() if i.manifest.media_type not in media_types.SCHEMA1_TYPES),
    ATTACHED,
    UNTAGGED,
    REFERRER,
    SIGNATURE,
]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree that no test changes."""
    root = archives.fill(tmp_path_factory.mktemp("original") / "image-serve", EVERYTHING)
    with LocalExportDriver(root) as driver:
        for digest, blob in LONG.blobs.items():
            driver.upload_layer(LONG.repository, [blob], expected=digest)
        # An index that was copied without some of its images.
        sparse = content.sparse_index()
        held = {child.digest for child in sparse.children}
        listed = {child.digest for child in sparse.manifest.manifests}
        driver.leave_out(sparse.repository, sparse.digest, listed - held)
        long = LONG.manifest.content
        driver.put_manifest(
            LONG.repository,
            long,
            LONG.manifest.media_type,
            tag=LONG.tag,
            expected=Digest.of(long, "sha512"),
        )
    return root
