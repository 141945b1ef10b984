# SPDX-License-Identifier: Apache-2.0
"""A tag that moves again and again while clients ask for it, among manifests of all types."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.testing import images
from tests.support import quick, trees, web

IMAGES = [
    images.image("moving", "1.0", [images.layer({"f": b"x"})], oci=oci) for oci in (False, True)
]
INDEX = images.index("moving", "1.0", [IMAGES[1]])
TAG = Tag("1.0")
# nginx looks at the link twice, so most of the requests are for it.
REQUESTS: dict[web.Kind, int] = {"nginx": 2000, "httpd": 500, "embedded": 500}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            for image in (*IMAGES, INDEX):
                trees.put(driver, image)
        yield folder / "tree"


# Moves a link from one target to the next, as a put does: by a new link. Python runs
# one thread at a time, so this is a process of its own.
MOVE = """
import itertools, os, sys
new, link, *targets = sys.argv[1:]
for target in itertools.cycle(targets):
    os.symlink(target, new)
    os.rename(new, link)
"""


@contextlib.contextmanager
def moving(root: Path) -> Iterator[None]:
    link = root / layout.RepositoryLayout(INDEX.repository).tag_link(TAG)
    targets = [f"../manifests/{image.digest}" for image in (*IMAGES, INDEX)]
    process = subprocess.Popen([sys.executable, "-c", MOVE, root / "new", link, *targets])
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        (root / "new").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", quick.alone({"embedded"}, REQUESTS))
def test_each_answer_is_one_manifest(kind: web.Kind, root: Path) -> None:
    """The tag is never missing, and type, digest and content belong together."""
    seen: set[str] = set()
    with web.serve(kind, root) as server, moving(root):
        connection = http.client.HTTPConnection(server, timeout=60)
        for _ in range(REQUESTS[kind]):
            connection.request("GET", f"/v2/moving/manifests/{TAG}")
            answer = connection.getresponse()
            body, told = answer.read(), answer.headers
            assert answer.status == 200, body
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            assert (told["Docker-Content-Digest"], told["ETag"]) == (digest, f'"{digest}"')
            assert told["Content-Type"] == json.loads(body)["mediaType"]
            seen.add(digest)
        connection.close()
    assert seen == {str(image.digest) for image in (*IMAGES, INDEX)}
