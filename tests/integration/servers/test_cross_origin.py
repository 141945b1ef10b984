# SPDX-License-Identifier: Apache-2.0
"""Pages of other origins that read a registry in a browser (the Fetch standard, CORS)."""

from __future__ import annotations

import contextlib
import http.server
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.web_server import Server, running
from tests.integration.servers.test_serve import serving
from tests.support import quick, raw, trees, web
from tests.support.browser import chromium

KINDS: tuple[web.Kind, ...] = ("embedded", "nginx", "httpd")

IMAGE = images.corpus()[0]
BY_TAG = f"/v2/{IMAGE.repository}/manifests/{IMAGE.tag}"
BY_DIGEST = f"/v2/{IMAGE.repository}/manifests/{IMAGE.digest}"
BLOB, CONTENT = next(iter(IMAGE.blobs.items()))
LAYER = f"/v2/{IMAGE.repository}/blobs/{BLOB}"
UI, OTHER = "https://ui.example", "http://other.example:8080"
EXPOSED = {
    *("docker-content-digest", "link", "docker-distribution-api-version", "oci-filters-applied"),
    *("content-range", "etag", "www-authenticate"),
}
# Each kind of answer: method, target, headers and status.
ANSWERS: list[tuple[str, str, dict[str, str], int]] = [
    ("GET", "/v2/", {}, 200),
    ("GET", "/v2/_catalog", {}, 200),
    ("GET", f"/v2/{IMAGE.repository}/tags/list", {}, 200),
    ("GET", f"/v2/{IMAGE.repository}/tags/list?n=1", {}, 200),
    ("GET", f"/v2/{IMAGE.repository}/referrers/{IMAGE.digest}", {}, 200),
    ("HEAD", BY_TAG, {}, 200),
    ("GET", BY_DIGEST, {}, 200),
    ("GET", LAYER, {}, 200),
    ("GET", LAYER, {"Range": "bytes=0-0"}, 206),
    ("GET", LAYER, {"Range": "bytes=0-0,2-2"}, 206),
    ("GET", LAYER, {"Range": "bytes=99999999-"}, 416),
    ("GET", BY_TAG, {"If-None-Match": f'"{IMAGE.digest}"'}, 304),
    ("GET", f"/v2/{IMAGE.repository}/manifests/absent", {}, 404),
    ("GET", f"/v2/{IMAGE.repository}/blobs/sha256:0", {}, 400),
    ("GET", "/elsewhere", {}, 404),
    ("PUT", BY_TAG, {}, 405),
]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            trees.put(driver, IMAGE)
        yield folder / "tree"


@pytest.fixture(scope="module", params=quick.alone({"embedded"}, KINDS))
def kind(request: pytest.FixtureRequest) -> web.Kind:
    kind: web.Kind = request.param
    return kind


@contextlib.contextmanager
def allowing(kind: web.Kind, root: Path, *origins: str) -> Iterator[str]:
    options = tuple(word for origin in origins for word in ("--allow-origin", origin))
    if kind == "embedded":
        with web.command(root, *options) as url:
            yield url.removeprefix("http://")
    else:
        with serving(kind, "", root, options=options) as address:
            yield address


@pytest.fixture(scope="module")
def listed(kind: web.Kind, root: Path) -> Iterator[str]:
    with allowing(kind, root, UI, OTHER) as server:
        yield server


@pytest.fixture(scope="module")
def open_to_all(kind: web.Kind, root: Path) -> Iterator[str]:
    with allowing(kind, root, "*") as server:
        yield server


def elements(headers: Message, name: str) -> set[str]:
    """Return the elements of all lines of a field, in lower case."""
    lines = ",".join(headers.get_all(name, []))
    return {part.strip().lower() for part in lines.split(",")} - {""}


@pytest.mark.parametrize(("method", "target", "asked", "status"), ANSWERS)
def test_every_answer_to_a_page_of_the_list(
    listed: str, method: str, target: str, asked: dict[str, str], status: int
) -> None:
    for origin in (UI, OTHER):
        answered, headers, _ = raw.get(listed, target, method, Origin=origin, **asked)
        allowed = headers.get_all("Access-Control-Allow-Origin", [])
        assert (answered, allowed) == (status, [origin])
        assert elements(headers, "Access-Control-Expose-Headers") >= EXPOSED
        assert "origin" in elements(headers, "Vary")
        for name in ("Access-Control-Expose-Headers", "Vary"):
            said = ",".join(headers.get_all(name, [])).split(",")
            assert len(said) == len(elements(headers, name)), said


@pytest.mark.parametrize(("method", "target", "asked", "status"), ANSWERS)
@pytest.mark.parametrize(
    "origin", ["https://ui.example.org", "http://ui.example", f"{UI}:443", f"x{UI}", "null", "*"]
)
def test_no_answer_to_others(
    listed: str, origin: str, method: str, target: str, asked: dict[str, str], status: int
) -> None:
    """Pages of other origins cannot read the answer, and caches learn that it is not for all."""
    answered, headers, _ = raw.get(listed, target, method, Origin=origin, **asked)
    assert (answered, headers.get("Access-Control-Allow-Origin")) == (status, None)
    assert "origin" in elements(headers, "Vary")


@pytest.mark.parametrize(("method", "target", "asked", "status"), ANSWERS)
def test_every_answer_to_every_page(
    open_to_all: str, method: str, target: str, asked: dict[str, str], status: int
) -> None:
    for origin in ({"Origin": UI}, {}):
        answered, headers, _ = raw.get(open_to_all, target, method, **origin, **asked)
        allowed = headers.get_all("Access-Control-Allow-Origin", [])
        assert (answered, allowed) == (status, ["*"])
        assert elements(headers, "Access-Control-Expose-Headers") >= EXPOSED
        assert "origin" not in elements(headers, "Vary")
        assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize("target", [BY_TAG, LAYER, "/v2/", "/elsewhere"])
def test_what_a_browser_asks_first(listed: str, open_to_all: str, target: str) -> None:
    for server in (listed, open_to_all):
        asked = {
            "Origin": UI,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "range",
        }
        status, headers, body = raw.get(server, target, "OPTIONS", **asked)
        assert (status, body) == (204, b"")
        assert headers["Access-Control-Allow-Origin"] == ("*" if server == open_to_all else UI)
        assert elements(headers, "Access-Control-Allow-Methods") == {"get", "head"}
        allowed = {"accept", "authorization", "if-none-match", "range", "content-type"}
        assert elements(headers, "Access-Control-Allow-Headers") == allowed
        assert headers["Access-Control-Max-Age"] == "600"
        assert headers["Cache-Control"] == "no-cache"


@pytest.mark.slow
def test_nothing_of_it_without_the_option(kind: web.Kind, root: Path) -> None:
    with allowing(kind, root) as server:
        for method, status in (("GET", 200), ("OPTIONS", 405)):
            answered, headers, _ = raw.get(server, BY_TAG, method, Origin=UI)
            assert answered == status
            assert not [name for name in headers if name.lower().startswith("access-control")]
            assert "origin" not in elements(headers, "Vary")


class Page(http.server.BaseHTTPRequestHandler):
    """A page of another origin."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>UI</title><p>A user interface.")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    with running(Server(("127.0.0.1", 0), Page)) as address:
        yield f"http://{address}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


FETCH = """
const [base, byTag, layer, accept, done] = arguments;
const read = async (url, headers) => {
  const answer = await fetch(base + url, { headers });
  const got = {};
  for (const name of ["Docker-Content-Digest", "ETag", "Content-Range"])
    got[name] = answer.headers.get(name);
  return [answer.status, got, await answer.text()];
};
(async () => [
  await read(byTag, { Accept: accept }),
  await read(layer, { Range: "bytes=1-3,5-5" }),
  await read(layer, { Range: "bytes=0-0" }),
  await read("/v2/no/such/manifests/x", {}),
])().then(done, (error) => done(String(error)));
"""


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [True, False])
def test_a_page_in_a_browser(
    kind: web.Kind, root: Path, page: str, browser: Any, allowed: bool
) -> None:
    """A page that is allowed reads a manifest, parts of a blob and errors; any other nothing."""
    with allowing(kind, root, page if allowed else UI) as server:
        browser.get(page)
        accept = ", ".join(sorted(media_types.MANIFEST_TYPES))
        got = browser.execute_async_script(FETCH, f"http://{server}", BY_TAG, LAYER, accept)
    if not allowed:
        assert got == "TypeError: Failed to fetch"
        return
    found, several, one, error = got
    assert found[0] == 200
    assert found[1]["Docker-Content-Digest"] == str(IMAGE.digest)
    assert found[1]["ETag"] == f'"{IMAGE.digest}"'
    assert found[2].encode() == IMAGE.manifest.content
    assert (several[0], one[0]) == (206, 206)
    assert one[1]["Content-Range"] == f"bytes 0-0/{len(CONTENT)}"
    assert error[0] == 404
    assert "MANIFEST_UNKNOWN" in error[2]
