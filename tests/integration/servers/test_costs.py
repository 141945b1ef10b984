# SPDX-License-Identifier: Apache-2.0
"""How many system calls the answer to a request takes, on each server."""

from __future__ import annotations

import collections
import http.client
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.media_types import OCI_LAYER_GZIP
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob
from tests.support import programs, trees, web

pytestmark = pytest.mark.slow

REQUESTS = 10
LAYER = Blob(bytes(200_000), OCI_LAYER_GZIP)
IMAGE = images.image("base", "1.0", [LAYER, images.layer({"f": b"x"})])
OCI = images.image("oci", "1.0", [images.layer({"f": b"x"}, oci=True)], oci=True)
INDEX = images.index("index", "1.0", [images.image("index", None, [images.layer({"f": b"y"})])])
GZIP = next(digest for digest, content in IMAGE.blobs.items() if content[:2] == b"\x1f\x8b")
LARGE = next(digest for digest, content in IMAGE.blobs.items() if content == LAYER.content)
# What containerd says.
ACCEPT = ", ".join(
    [
        *(media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST),
        *(media_types.OCI_MANIFEST, media_types.OCI_INDEX, "*/*"),
    ]
)
TARGETS = {
    "tag": "/v2/base/manifests/1.0",
    "tag of oci": "/v2/oci/manifests/1.0",
    "tag of list": "/v2/index/manifests/1.0",
    "digest": f"/v2/base/manifests/{IMAGE.digest}",
    "layer": f"/v2/base/blobs/{GZIP}",
    "large": f"/v2/base/blobs/{LARGE}",
    "list": "/v2/base/tags/list",
    "page": "/v2/base/tags/list?n=1",
}
_CALL = re.compile(r"^\d+ +(\w+)\(", re.MULTILINE)
_BEGIN, _END = "/v2/begin/tags/list", "/v2/end/tags/list"


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            trees.put(driver, IMAGE)
            trees.put(driver, IMAGE, "2.0")
            trees.put(driver, OCI)
            trees.put(driver, INDEX)
        yield folder / "tree"


def calls(kind: web.Kind, tree: Path, target: str, log: Path) -> list[str]:
    """Return the lines of strace for REQUESTS requests on one connection, after a first one."""
    strace = [programs.require("strace"), "-D", "-f", "-s", "200", "-o", str(log)]
    with web.serve(kind, tree, strace) as server:
        connection = http.client.HTTPConnection(server, timeout=60)
        for path in (target, _BEGIN, *[target] * REQUESTS, _END):
            connection.request("GET", path, headers={"Accept": ACCEPT})
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == (404 if path in (_BEGIN, _END) else 200), content
        connection.close()
    text = log.read_text(errors="replace")
    between = text[text.index(f'"GET {target} ', text.index(_BEGIN)) : text.rindex(f"GET {_END} ")]
    return between.splitlines()


# Looks at a name in the tree, by path. A link is read part by part, each part once: six of
# them for a tag here, and six for a page of a list.
BY_PATH = {
    ("nginx", "tag"): 7,
    ("nginx", "tag of oci"): 8,
    ("nginx", "tag of list"): 11,
    ("nginx", "digest"): 2,
    ("nginx", "layer"): 2,
    ("nginx", "list"): 2,
    ("nginx", "page"): 15,
    ("httpd", "tag"): 4,
    ("httpd", "digest"): 4,
    ("httpd", "layer"): 3,
}


@pytest.mark.parametrize(("kind", "what"), BY_PATH)
def test_looks_at_names(kind: web.Kind, what: str, tree: Path, tmp_path: Path) -> None:
    found = calls(kind, tree, TARGETS[what], tmp_path / "log")
    looks = [line for line in found if f'"{tree}/' in line and "resumed>" not in line]
    assert len(looks) == BY_PATH[kind, what] * REQUESTS, "\n".join(looks[:20])


# Everything that the embedded server asks of the kernel: files, sockets and locks.
@pytest.mark.parametrize(
    ("what", "most"), [("tag", 36), ("digest", 24), ("layer", 24), ("large", 30), ("list", 26)]
)
def test_calls_of_the_embedded_server(what: str, most: int, tree: Path, tmp_path: Path) -> None:
    found = calls("embedded", tree, TARGETS[what], tmp_path / "log")
    counted = collections.Counter(_CALL.findall("\n".join(found)))
    # The thread that takes new clients wakes up now and then.
    del counted["epoll_wait"]
    assert counted.total() <= most * REQUESTS, counted
    # A manifest is not read again; of a large blob no byte is.
    reads = counted["read"] + counted["pread64"]
    assert reads == {"layer": REQUESTS, "list": 2 * REQUESTS}.get(what, 0)
    assert counted["sendfile"] == (REQUESTS if what == "large" else 0)


def test_manifests_are_one_packet_of_nginx(tree: Path, tmp_path: Path) -> None:
    """What is small is read and written; sendfile needs two calls more to be one packet."""
    for what in ("tag", "digest"):
        found = calls("nginx", tree, TARGETS[what], tmp_path / what)
        counted = collections.Counter(_CALL.findall("\n".join(found)))
        sent = {name: counted[name] for name in ("writev", "sendfile", "setsockopt")}
        assert sent == {"writev": REQUESTS, "sendfile": 0, "setsockopt": 0}
