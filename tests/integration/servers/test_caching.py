# SPDX-License-Identifier: Apache-2.0
"""What caches are told, and what becomes of it when a tag or a list changes.

What a digest names is for ever; whatever else there is may be another thing at
the next request, within the same second and with the same size.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import caches, content, trees, web

TIMEOUT = 30
ALL_TYPES = ", ".join(sorted(media_types.MANIFEST_TYPES))
NO_LISTS = f"{media_types.DOCKER_MANIFEST}, {media_types.DOCKER_SCHEMA1_SIGNED}"
FOR_EVER = {"max-age=31536000", "immutable"}
MAY_MOVE = {"no-cache"}
FUTURE = "Fri, 01 Jan 2100 00:00:00 GMT"


def ask(
    server: str, path: str, method: str = "GET", accept: str = "", **headers: str
) -> requests.Response:
    # Nobody names types of blobs.
    accept = accept or ("*/*" if "/blobs/" in path else ALL_TYPES)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    fields = {"Accept": accept, "Accept-Encoding": "identity", **named}
    return requests.request(method, f"http://{server}{path}", headers=fields, timeout=TIMEOUT)


def members(answer: requests.Response, name: str) -> set[str]:
    return {part.strip() for part in answer.headers.get(name, "").split(",")} - {""}


IMAGES = {image.repository.value: image for image in content.everything()}
LIST, BASE = IMAGES["multi/docker"], IMAGES["base"]
ZEROS = "sha256:" + "0" * 64
BLOBS = {
    f"/v2/{name}/blobs/{digest}": digest
    for name in ("base", "odd/sha512", "odd/empty", "odd/zstd")
    for digest in IMAGES[name].blobs
}
BY_DIGEST = {
    **BLOBS,
    f"/v2/multi/docker/manifests/{LIST.digest}": LIST.digest,
    f"/v2/multi/docker/manifests/{LIST.children[0].digest}": LIST.children[0].digest,
}
LISTS = ["/v2/", "/v2/_catalog", "/v2/base/tags/list", "/v2/base/tags/list?n=1"]
LISTS += [f"/v2/base/referrers/{BASE.digest}", f"/v2/base/referrers/{BASE.digest}?artifactType=a/b"]
ERRORS = {
    f"/v2/base/manifests/{ZEROS}": 404,
    f"/v2/base/blobs/{ZEROS}": 404,
    "/v2/base/blobs/nonsense": 400,
    "/v2/absent/tags/list": 404,
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", list(BY_DIGEST))
def test_what_a_digest_names(server: str, kind: web.Kind, path: str, method: str) -> None:
    answer = ask(server, path, method)
    assert answer.status_code == 200
    assert members(answer, "Cache-Control") == FOR_EVER
    assert "Last-Modified" not in answer.headers
    assert not members(answer, "Vary")
    etag = f'"{BY_DIGEST[path]}"'
    if kind == "production" and "/blobs/sha256:" in path:
        etag = etag.strip('"')  # its own
    assert answer.headers["ETag"] == etag
    for value in (etag, f'"other", W/{etag}', "*"):
        again = ask(server, path, method, If_None_Match=value)
        assert (again.status_code, again.content) == (304, b""), value
        assert again.headers["ETag"] == etag
        assert members(again, "Cache-Control") == FOR_EVER
    assert ask(server, path, method, If_None_Match='"other"').status_code == 200
    assert ask(server, path, method, If_Modified_Since=FUTURE).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("name", "accept"),
    [("base", ALL_TYPES), ("multi/docker", ALL_TYPES), ("multi/docker", NO_LISTS), ("base", "*/*")],
)
def test_what_a_tag_names(server: str, name: str, accept: str, method: str) -> None:
    path, image = f"/v2/{name}/manifests/1.0", IMAGES[name]
    digest = image.children[0].digest if accept == NO_LISTS else image.digest
    etag = f'"{digest}"'

    def check(answer: requests.Response, status: int) -> None:
        assert answer.status_code == status
        assert members(answer, "Cache-Control") == MAY_MOVE
        assert members(answer, "Vary") == {"Accept"}
        assert answer.headers["ETag"] == etag
        assert "Last-Modified" not in answer.headers

    check(ask(server, path, method, accept), 200)
    for value in (etag, f"W/{etag}", f'"other", {etag}', f'"other",W/{etag} , "x"', "*"):
        check(ask(server, path, method, accept, If_None_Match=value), 304)
        check(ask(server, path, method, accept, If_None_Match=value, Range="bytes=0-0"), 304)
    size = len(image.manifest.content if digest == image.digest else child(image))
    # Apache's own would be made of the size.
    for value in ('"other"', f'"{ZEROS}"', 'W/"other", "x"', f'"{size:x}"'):
        check(ask(server, path, method, accept, If_None_Match=value), 200)
        both = {"If_None_Match": value, "If_Modified_Since": FUTURE}
        check(ask(server, path, method, accept, **both), 200)
    check(ask(server, path, method, accept, If_Modified_Since=FUTURE), 200)


def child(image: Image) -> bytes:
    return image.children[0].manifest.content


@pytest.mark.parametrize("value", ['"other"', FUTURE])
def test_a_part_of_another_manifest(server: str, value: str) -> None:
    """RFC 9110, 13.1.5: where If-Range does not match, the whole is the answer."""
    for path in ("/v2/base/manifests/1.0", next(iter(BLOBS))):
        assert ask(server, path, Range="bytes=0-0", If_Range=value).status_code == 200
        etag = ask(server, path).headers["ETag"]
        assert ask(server, path, Range="bytes=0-0", If_Range=etag).status_code == 206


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", LISTS)
def test_what_may_change(server: str, path: str, method: str) -> None:
    answer = ask(server, path, method)
    assert answer.status_code == 200
    assert members(answer, "Cache-Control") == MAY_MOVE
    assert "Last-Modified" not in answer.headers
    assert not members(answer, "Vary")
    assert ask(server, path, method, If_Modified_Since=FUTURE).status_code == 200
    assert ask(server, path, method, If_None_Match='"other"').status_code == 200


@pytest.mark.parametrize("path", list(ERRORS))
def test_what_may_come_to_be(server: str, path: str) -> None:
    answer = ask(server, path)
    assert answer.status_code == ERRORS[path]
    assert members(answer, "Cache-Control") == MAY_MOVE
    assert "ETag" not in answer.headers


def test_other_refusals(server: str) -> None:
    absent = ask(server, "/v2/base/manifests/absent")
    assert absent.status_code == 404
    assert members(absent, "Vary") == {"Accept"}
    refused = ask(server, "/v2/base/manifests/1.0", "PUT")
    assert refused.status_code == 405
    beyond = ask(server, next(iter(BLOBS)), Range="bytes=99999999-")
    assert beyond.status_code == 416
    for answer in (absent, refused, beyond):
        assert members(answer, "Cache-Control") == MAY_MOVE


def test_the_page(server: str, kind: web.Kind) -> None:
    if kind == "production":
        return  # its root is elsewhere
    answer = ask(server, "/", accept="text/html")
    assert members(answer, "Cache-Control") == MAY_MOVE
    assert "Last-Modified" not in answer.headers


# Two of each, of one size and type.
ONE, TWO = (
    images.artifact("moving", "1.0", "application/vnd.example", text) for text in (b"1", b"2")
)
NOTES = [
    images.artifact("moving", None, "application/x", text, subject=ONE.descriptor())
    for text in (b"1", b"2")
]
CHANGING: dict[str, Callable[[int], bytes]] = {
    "/v2/moving/manifests/1.0": lambda state: (ONE, TWO)[state].manifest.content,
    "/v2/moving/tags/list": lambda state: b'"%s"' % (b"aa", b"bb")[state],
    "/v2/moving/tags/list?n=10": lambda state: b'"%s"' % (b"aa", b"bb")[state],
    "/v2/_catalog": lambda state: b'"%s"' % (b"xx", b"yy")[state],
    f"/v2/moving/referrers/{ONE.digest}": lambda state: str(NOTES[state].digest).encode(),
}


class Site:
    """A tree in one of two states that cannot be told apart by sizes and times."""

    def __init__(self, root: Path, driver: LocalExportDriver) -> None:
        self._root, self._driver = root, driver
        for image in (ONE, TWO):
            trees.put(driver, image, image.digest.encoded[:8])
        self._put(0)
        self._stop_the_clock()

    def become(self, state: int) -> None:
        self._put(state)
        name, other = RepositoryName("moving"), RepositoryName(("yy", "xx")[state])
        self._driver.delete(ImageRef(name, Tag(("bb", "aa")[state])))
        self._driver.delete(ImageRef(name, NOTES[1 - state].digest))
        self._driver.delete(ImageRef(other, Tag("1.0")))
        self._stop_the_clock()

    def _put(self, state: int) -> None:
        image = (ONE, TWO)[state]
        for tag in ("1.0", ("aa", "bb")[state]):
            trees.put(self._driver, image, tag)
        trees.put(self._driver, NOTES[state])
        trees.put(self._driver, images.image(("xx", "yy")[state], "1.0", []))

    def _stop_the_clock(self) -> None:
        for path in (self._root, *self._root.rglob("*")):
            os.utime(path, (10**9, 10**9), follow_symlinks=False)


@contextlib.contextmanager
def changing() -> Iterator[tuple[Path, Site]]:
    with web.open_folder() as folder, LocalExportDriver(folder / "tree") as driver:
        yield folder / "tree", Site(folder / "tree", driver)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_wrong_304(kind: web.Kind, method: str) -> None:
    """Validators of one state are asked with in the other one, and back again."""
    assert len(ONE.manifest.content) == len(TWO.manifest.content)
    known: dict[str, dict[int, list[dict[str, str]]]] = {path: {} for path in CHANGING}
    with changing() as (root, site), web.serve(kind, root) as server:
        for number in range(3):
            state = number % 2
            if number:
                site.become(state)
            for path, content_of in CHANGING.items():
                for validators in known[path].get(1 - state, []):
                    answer = ask(server, path, method, **validators)
                    assert answer.status_code == 200, (path, validators)
                    assert method == "HEAD" or content_of(state) in answer.content
                known[path][state] = validators_of(ask(server, path))


def validators_of(answer: requests.Response) -> list[dict[str, str]]:
    """Return all conditions that a client can ask with that remembers ``answer``."""
    times = {answer.headers.get("Last-Modified"), answer.headers["Date"], FUTURE} - {None}
    found = [{"If_Modified_Since": str(time)} for time in times]
    etag = answer.headers.get("ETag")
    if etag:
        found += [{"If_None_Match": etag}, {"If_None_Match": f"W/{etag}"}]
        found += [{"If_None_Match": etag, "If_Modified_Since": str(time)} for time in times]
    return found


@pytest.mark.slow
def test_behind_caches(kind: web.Kind) -> None:
    """Behind caches, both kinds of clients see a tag and lists that change and change back."""
    with changing() as (root, site), contextlib.ExitStack() as stack:
        driver = stack.enter_context(LocalExportDriver(root))
        trees.put(driver, BASE)
        origins: dict[str, caches.Origin] = {}
        servers: dict[str, str] = {}
        address = stack.enter_context(web.serve(kind, root))
        for name, cache in caches.CACHES.items():
            origins[name] = caches.Origin(address)
            between = stack.enter_context(origins[name].listening())
            servers[name] = stack.enter_context(cache(between))
        for number in range(3):
            trees.put(driver, (LIST, SINGLE)[number % 2])
            if number:
                site.become(number % 2)
            for server in servers.values():
                _check_behind(server, number % 2)
        for name, server in servers.items():
            for digest, expected in BASE.blobs.items():
                _check_kept(server, origins[name], f"/v2/base/blobs/{digest}", expected)
            assert origins[name].asked("/v2/multi/docker/manifests/1.0") > 1


def _check_kept(server: str, origin: caches.Origin, path: str, expected: bytes) -> None:
    """Check that a cache which has a blob, maybe a moment after its client, asks no more."""
    asked = -1
    while origin.asked(path) > asked:
        asked = origin.asked(path)
        assert asked < 5, origin.requests
        assert ask(server, path).content == expected
    assert {ask(server, path).content for _ in range(3)} == {expected}
    assert origin.asked(path) == asked


SINGLE = images.image("multi/docker", "1.0", [])


def _check_behind(server: str, state: int) -> None:
    """Check answers to clients that know lists and to those that do not, in turn; then changes."""
    for accept in (ALL_TYPES, NO_LISTS, NO_LISTS, ALL_TYPES):
        image = LIST if accept == ALL_TYPES else LIST.children[0]
        expected = (image, SINGLE)[state]
        answer = ask(server, "/v2/multi/docker/manifests/1.0", accept=accept)
        assert answer.content == expected.manifest.content, server
        assert answer.headers["Docker-Content-Digest"] == str(expected.digest)
    for path, content_of in CHANGING.items():
        for _ in range(2):
            assert content_of(state) in ask(server, path).content, path
