# SPDX-License-Identifier: Apache-2.0
"""Each web server serves the page alike, and the page works on each.

The production vhost sends / elsewhere; the page is at /index.html there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from image_uploader_plugins.local_export.views import documents
from tests.integration.browser.content import gallery
from tests.support import quick, web
from tests.support.browser import Browser

pytestmark = pytest.mark.slow

TIMEOUT = 30


@pytest.fixture(scope="module", params=quick.alone({"embedded"}, web.KINDS))
def kind(request: pytest.FixtureRequest) -> web.Kind:
    kind: web.Kind = request.param
    return kind


@pytest.fixture(scope="module")
def address(kind: web.Kind, gallery_root: Path) -> Iterator[str]:
    with web.serve(kind, gallery_root) as address:
        yield f"http://{address}"


def test_answers(kind: web.Kind, address: str) -> None:
    for path in ("/index.html",) if kind == "production" else ("/", "/index.html", "/?a=b"):
        for method in ("GET", "HEAD"):
            plain = {"Accept-Encoding": "identity"}
            answer = requests.request(method, address + path, headers=plain, timeout=TIMEOUT)
            assert answer.status_code == 200
            assert "Content-Encoding" not in answer.headers
            assert answer.content == (documents.PAGE if method == "GET" else b"")
            assert answer.headers["Content-Length"] == str(len(documents.PAGE))
            if kind == "production":
                assert answer.headers["Content-Type"] == "text/html"
                continue
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
            assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_the_page_is_compressed_and_nothing_else(kind: web.Kind, address: str) -> None:
    """Where the server does it; an answer of the API has the length and bytes of its file."""
    packed = {"Accept-Encoding": "gzip", "Accept": "*/*"}
    if kind in ("nginx", "embedded"):
        for method in ("GET", "HEAD"):
            answer = requests.request(method, f"{address}/", headers=packed, timeout=TIMEOUT)
            assert answer.headers["Content-Encoding"] == "gzip"
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert answer.content == (documents.PAGE if method == "GET" else b"")
        with requests.get(f"{address}/", headers=packed, stream=True, timeout=TIMEOUT) as answer:
            assert len(answer.raw.read(decode_content=False)) < len(documents.PAGE) / 2
    image = next(image for image in gallery() if image.repository.value == "base")
    blobs = [f"blobs/{digest}" for digest in image.blobs]
    for part in ("tags/list", "manifests/1.0", f"manifests/{image.digest}", *blobs):
        answer = requests.get(f"{address}/v2/base/{part}", headers=packed, timeout=TIMEOUT)
        assert answer.status_code == 200
        assert "Content-Encoding" not in answer.headers
        assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_a_browser_that_has_it_keeps_it(kind: web.Kind, address: str) -> None:
    """Where the server can tell by what it contains; a file's time and size are not that."""
    url = f"{address}/index.html"
    answer = requests.get(url, timeout=TIMEOUT)
    if kind in ("nginx", "httpd"):
        assert answer.headers["Cache-Control"] == "no-cache"
        assert not {"ETag", "Last-Modified"} & set(answer.headers)
        return
    known = {"If-None-Match": answer.headers["ETag"]}
    assert requests.get(url, headers=known, timeout=TIMEOUT).status_code == 304


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_is_read_only(kind: web.Kind, address: str, method: str) -> None:
    if kind == "production":
        return  # not ours to say
    answer = requests.request(method, f"{address}/", timeout=TIMEOUT)
    assert answer.status_code == 405
    allowed = {name.strip() for name in answer.headers["Allow"].split(",")} - {""}
    assert allowed == {"GET", "HEAD"}


@pytest.mark.parametrize(
    "path",
    [
        *("/index", "/index.htm", "/index.html/", "/index.html/x", "/index.html%00", "/INDEX.HTML"),
        *("/.local-export/", "/.local-export", "/v2/.htaccess", "/v2/index.html", "/x/index.html"),
        *("/index.html/../.local-export/", "/%2e%2e/index.html", "/favicon.ico", "/robots.txt"),
    ],
)
def test_nothing_else_comes_along(kind: web.Kind, address: str, path: str) -> None:
    if kind == "production":
        return  # it serves whatever file is in the tree
    prepared = requests.Request("GET", address).prepare()
    prepared.url = address + path  # requests would tidy it up
    with requests.Session() as session:
        answer = session.send(prepared, timeout=TIMEOUT, allow_redirects=False)
    assert answer.status_code in (400, 403, 404)
    assert answer.content != documents.PAGE


def test_it_works(kind: web.Kind, address: str, browser: Browser) -> None:
    """The list, a platform, a configuration, referrers and tags as this server answers them."""
    browser.open(f"{address}/index.html")
    total = len({image.repository for image in gallery()})
    assert browser.text("#count") == f"{total} repositories"
    browser.go("/multi/oci")
    browser.until_says("OCI index of 3 manifests")
    browser.go("/multi/docker:1.0")
    browser.click("main td a", "linux/arm64")
    browser.until_says("linux/arm64", ".facts")
    browser.until_says("Checked: this browser has hashed the manifest.")
    browser.go("/signed/app:1.0")
    browser.until_says("application/spdx+json")
    browser.go("/odd/sha512:1.0")
    browser.until_says("sha512:")
    assert not browser.texts(".error")
