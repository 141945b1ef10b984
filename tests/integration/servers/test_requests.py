# SPDX-License-Identifier: Apache-2.0
"""Requests that no well-meant client sends, and those that few do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing.images import Image
from tests.support import raw, trees, web
from tests.support.content import everything

ZEROS = "sha256:" + "0" * 64
PASSWD = Path("/etc/passwd").read_bytes()


def by_name(name: str) -> Image:
    return next(image for image in everything() if image.repository.value == name)


@pytest.mark.parametrize(
    "target",
    [
        "/../../../../etc/passwd",
        "/v2/../../../../etc/passwd",
        "/v2/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/v2/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/v2/base/blobs/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/v2/base/blobs/sha256:..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/v2/base/manifests/..%5c..%5c..%5c..%5c..%5cetc%5cpasswd",
        "/v2/base/manifests/1.0%00",
        "/v2/base%00/manifests/1.0",
        "/v2/base/tags/list%0d%0aSet-Cookie:x",
        "/v2/base/manifests/%ff%fe",
        "/v2/base/tags/../../../.local-export/",
        "/v2/.local-export/manifests/1.0",
        "/v2/base/.tags/manifests/1.0",
        "/v2/" + "a/" * 1500 + "manifests/1.0",
        "/v2/base/manifests/" + "a" * 4000,
        "/v2/base/blobs/sha256:" + "0" * 4000,
        "/v2//etc/passwd",
        "//etc/passwd",
        "http://127.0.0.1/../../etc/passwd",
        "/etc/passwd?/v2/_catalog",
    ],
)
def test_nothing_beyond_the_api(server: str, target: str) -> None:
    status, headers, body = raw.get(server, target)
    assert status in (400, 403, 404, 414)
    assert PASSWD not in body
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("target", ["*", "127.0.0.1:80", "v2/_catalog", "", "#"])
@pytest.mark.parametrize("method", ["GET", "CONNECT", "OPTIONS"])
def test_other_forms_of_targets(server: str, kind: web.Kind, method: str, target: str) -> None:
    """RFC 9112, 3.2; whatever the form, a read-only registry has nothing to say to it."""
    status = raw.get(server, target, method)[0]
    if kind in ("httpd", "production") and (method, target) == ("OPTIONS", "*"):
        assert status == 200  # of the server as a whole, before any virtual host
    elif kind == "production" and method == "CONNECT":
        assert status in (302, 400, 405)
    else:
        assert status in range(400, 500)


def test_the_absolute_form(server: str) -> None:
    """RFC 9112, 3.2.2: a server MUST accept it."""
    status, _, body = raw.get(server, f"http://{server}/v2/_catalog")
    assert status == 200
    assert "base" in json.loads(body)["repositories"]


def test_http_1_0(server: str) -> None:
    """HTTP/1.0 needs no Host, and its connection ends after the answer."""
    blob, content = next(iter(by_name("base").blobs.items()))
    request = f"GET /v2/base/blobs/{blob} HTTP/1.0\r\n\r\n"
    status, headers, body = raw.exchange(server, request.encode())
    assert (status, body) == (200, content)
    assert headers["Content-Length"] == str(len(content))
    assert "Transfer-Encoding" not in headers


@pytest.mark.parametrize("value", ["items=0-1", "seconds=1-2"])
def test_a_range_of_something_else(server: str, value: str) -> None:
    """RFC 9110, 14.2: a unit that is not understood is ignored."""
    blob, content = next(iter(by_name("base").blobs.items()))
    status, _, body = raw.get(server, f"/v2/base/blobs/{blob}", Range=value)
    assert (status, body) == (200, content)


def test_a_range_of_what_is_asked_about(server: str, kind: web.Kind) -> None:
    """RFC 9110, 14.2: ranges are for GET; nginx and Apache tell what GET would get."""
    blob, content = next(iter(by_name("base").blobs.items()))
    status, headers, body = raw.get(server, f"/v2/base/blobs/{blob}", "HEAD", Range="bytes=1-2")
    assert body == b""
    if kind == "embedded":
        assert (status, headers["Content-Length"]) == (200, str(len(content)))
    else:
        assert (status, headers["Content-Length"]) in ((200, str(len(content))), (206, "2"))


def test_the_namespace_that_containerd_names(server: str) -> None:
    """containerd tells a mirror, with ``?ns=``, whose images it asks for."""
    image = by_name("base")
    accept = ", ".join(media_types.MANIFEST_TYPES)
    for method in ("GET", "HEAD"):
        for reference in (image.tag, image.digest):
            target = f"/v2/base/manifests/{reference}"
            status, headers, body = raw.get(server, target + "?ns=quay.io", method, Accept=accept)
            if status == 301:  # the production vhost, for digests; clients follow
                assert headers["Location"].endswith(f"{target}/?ns=quay.io")
                continue
            assert status == 200
            assert headers["Docker-Content-Digest"] == str(image.digest)
            assert body == (image.manifest.content if method == "GET" else b"")
        for blob, content in image.blobs.items():
            target = f"/v2/base/blobs/{blob}?ns=quay.io&x=y"
            status, _, body = raw.get(server, target, method)
            assert (status, body) == (200, content if method == "GET" else b"")


@pytest.fixture(scope="module")
def planted() -> Iterator[str]:
    """A tree with files that no driver writes, served by the embedded server."""
    with web.open_folder() as folder:
        secret = folder / "secret"
        secret.write_bytes(b'{"tags": ["secret"]}')
        outside = folder / "outside"
        image = by_name("base")
        with LocalExportDriver(outside) as driver:
            trees.put(driver, image)
        root = folder / "tree"
        with LocalExportDriver(root) as driver:
            trees.put(driver, image)
        base = root / "v2" / "base"
        (base / "blobs" / ZEROS).symlink_to(secret)
        (base / "blobs" / ("sha256:" + "1" * 64)).mkdir()
        os.mkfifo(base / "blobs" / ("sha256:" + "2" * 64))
        (base / "manifests" / ZEROS).symlink_to(outside / "v2/base/manifests" / str(image.digest))
        (base / ".tags" / "outside").symlink_to(secret)
        (base / ".tags" / "far").symlink_to(outside / "v2/base/manifests" / ZEROS)
        (base / ".tags" / "file").write_text("x")
        (root / "v2" / "linked").symlink_to(outside / "v2" / "base")
        (root / "v2" / "listed" / "tags").mkdir(parents=True)
        (root / "v2" / "listed" / "tags" / "list").symlink_to(secret)
        (root / "v2" / "odd" / "tags").mkdir(parents=True)
        (root / "v2" / "odd" / "tags" / "list").write_text('{"tags": 1}\n')
        (root / "v2" / "file").write_text("x")
        (root / "v2" / "_catalog").unlink()
        (root / "v2" / "_catalog").symlink_to(secret)
        with web.serve("embedded", root) as server:
            yield server


@pytest.mark.parametrize(
    "target",
    [
        f"base/blobs/{ZEROS}",
        "base/blobs/sha256:" + "1" * 64,
        "base/blobs/sha256:" + "2" * 64,
        f"base/manifests/{ZEROS}",
        "base/manifests/outside",
        "base/manifests/far",
        "base/manifests/file",
        f"linked/manifests/{by_name('base').digest}",
        "linked/manifests/1.0",
        "linked/tags/list",
        "listed/tags/list",
        "file/tags/list",
        "index.json/tags/list",
        "_catalog",
    ],
)
def test_no_planted_file_is_served(planted: str, target: str) -> None:
    status, headers, body = raw.get(planted, f"/v2/{target}")
    assert status == 404
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)["errors"]
    assert b"secret" not in body


def test_a_damaged_list(planted: str) -> None:
    status, _, body = raw.get(planted, "/v2/odd/tags/list")
    assert (status, json.loads(body)["errors"][0]["code"]) == (500, "UNKNOWN")
    assert raw.get(planted, "/v2/base/manifests/1.0")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"Transfer-Encoding: chunked\r\n\r\n31\r\nGET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n",
        b"Content-Length: -5\r\n\r\nGET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n",
        b"Content-Length: +5\r\n\r\n12345GET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n",
        b"Content-Length: 99999999999\r\n\r\nGET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"PUT"])
def test_a_body_is_no_second_request(planted: str, method: bytes, body: bytes) -> None:
    request = method + b" /v2/ HTTP/1.1\r\nHost: x\r\n" + body
    _, _, rest = raw.exchange(planted, request)
    assert b"HTTP/1.1" not in rest


def test_digests_are_checked_before_paths(planted: str) -> None:
    status, _, body = raw.get(planted, "/v2/base/blobs/sha256:..")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    assert Digest(ZEROS)
