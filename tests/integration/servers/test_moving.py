# SPDX-License-Identifier: Apache-2.0
"""A tag that moves again and again while clients ask for it, among manifests of all types."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import media_types
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
MOVED = {str(image.digest) for image in (*IMAGES, INDEX)}


@contextlib.contextmanager
def moving(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    link = root / layout.RepositoryLayout(INDEX.repository).tag_link(TAG)
    targets = [f"../manifests/{image.digest}" for image in (*IMAGES, INDEX)]
    process = subprocess.Popen([sys.executable, "-c", MOVE, root / "new", link, *targets])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        (root / "new").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", quick.alone({"embedded"}, REQUESTS))
def test_each_answer_is_one_manifest(kind: web.Kind, root: Path) -> None:
    """The tag is never missing, and type, digest and content belong together."""
    seen: set[str] = set()
    with web.serve(kind, root) as server, moving(root) as process:
        connection = http.client.HTTPConnection(server, timeout=60)
        # The other process may get no turn for as long as so many requests take.
        count = 0
        while count < REQUESTS[kind] or seen != MOVED:
            count += 1
            assert process.poll() is None
            connection.request("GET", f"/v2/moving/manifests/{TAG}")
            answer = connection.getresponse()
            body, told = answer.read(), answer.headers
            assert answer.status == 200, body
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            assert (told["Docker-Content-Digest"], told["ETag"]) == (digest, f'"{digest}"')
            assert told["Content-Type"] == json.loads(body)["mediaType"]
            seen.add(digest)
            assert seen <= MOVED
        connection.close()


# The links of a tag, and what a client gets that knows no lists. Earlier versions wrote
# two links for each tag. A list has no default where none of its manifests is there.
CHILD = IMAGES[1]
STATES = {
    "an image": (IMAGES[0], None, IMAGES[0]),
    "an image with two links": (IMAGES[0], IMAGES[0], IMAGES[0]),
    "a list": (INDEX, CHILD, CHILD),
    "a list without a default": (INDEX, None, INDEX),
}
# Moves a tag to a list or back, as a put does, each time that a byte comes in.
SWITCH = """
import itertools, os, sys
new, link, default, image, index, child = sys.argv[1:]
def lead(path, target):
    os.symlink(target, new)
    os.rename(new, path)
moments = itertools.cycle(range(0, 12_000, 101))
for is_list in itertools.cycle((False, True)):
    if is_list:
        lead(default, child)
        lead(link, index)
    else:
        lead(link, image)
        os.path.lexists(default) and os.unlink(default)
    os.write(1, b".")
    if not os.read(0, 1):
        break
    # So that it comes at each moment of a request.
    for _ in range(next(moments)):
        pass
"""
SWITCHES = 300


def links(root: Path) -> tuple[Path, Path]:
    paths = layout.RepositoryLayout(INDEX.repository)
    return root / paths.tag_link(TAG), root / paths.default_link(TAG)


def target(image: images.Image) -> str:
    return layout.link_target(image.digest)


@contextlib.contextmanager
def switching(root: Path) -> Iterator[Callable[[], None]]:
    """A tag that moves once for each call; the call returns when the move before is over."""
    arguments = [root / "new", *links(root), *map(target, (IMAGES[0], INDEX, CHILD))]
    command = [sys.executable, "-c", SWITCH, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout

        def switch() -> None:
            assert process.stdout
            assert os.read(process.stdout.fileno(), 1)
            assert process.stdin
            os.write(process.stdin.fileno(), b".")

        yield switch
        process.stdin.close()


@pytest.mark.parametrize("kind", quick.alone({"embedded"}, REQUESTS))
def test_clients_that_know_no_lists(kind: web.Kind, root: Path) -> None:
    """They get no list that has a default, also not while a tag moves to one or from it."""
    link, default = links(root)
    with (
        web.serve(kind, root) as server,
        contextlib.closing(http.client.HTTPConnection(server, timeout=60)) as connection,
    ):

        def gets() -> str | None:
            accept = f"{media_types.DOCKER_MANIFEST}, {media_types.DOCKER_SCHEMA1_SIGNED}"
            path = f"/v2/moving/manifests/{TAG}"
            connection.request("GET", path, headers={"Accept": accept})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            assert f"sha256:{hashlib.sha256(body).hexdigest()}" == answer.headers["ETag"].strip('"')
            return answer.headers["Docker-Content-Digest"]

        for state, (tagged, other, expected) in STATES.items():
            for path, image in ((link, tagged), (default, other)):
                path.unlink(missing_ok=True)
                if image:
                    path.symlink_to(target(image))
            assert gets() == str(expected.digest), state
        with switching(root) as switch:
            seen = set()
            for _ in range(SWITCHES):
                switch()
                seen.add(gets())
        assert seen == {str(IMAGES[0].digest), str(CHILD.digest)}
