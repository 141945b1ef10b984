# SPDX-License-Identifier: Apache-2.0
"""What each web server answers, request by request.

The production vhost is what it is: it redirects digests of manifests to their
directory, its errors are pages for people, and it answers TRACE.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from image_uploader_plugins import media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.testing.images import Image
from tests.support import trees, web
from tests.support.content import everything

TIMEOUT = 30
ALL_TYPES = ", ".join(sorted(media_types.MANIFEST_TYPES))


def ask(server: str, path: str, accept: str = ALL_TYPES, method: str = "GET") -> requests.Response:
    return requests.request(
        method,
        f"http://{server}{path}",
        headers={"Accept": accept, "Accept-Encoding": "identity"},
        timeout=TIMEOUT,
    )


def by_name(name: str) -> Image:
    return next(image for image in everything() if image.repository.value == name)


def url(image: Image, reference: object) -> str:
    return f"/v2/{image.repository}/manifests/{reference}"


def check(server: str, path: str, expected: Manifest, digest: Digest, **more: Any) -> None:
    """OCI distribution-spec 1.1, "Pulling manifests": GET and HEAD, exact headers."""
    for method in ("GET", "HEAD"):
        answer = ask(server, path, method=method, **more)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"] == expected.media_type
        assert answer.headers["Docker-Content-Digest"] == str(digest)
        assert answer.headers["Content-Length"] == str(len(expected.content))
        assert "Content-Encoding" not in answer.headers
        assert answer.content == (expected.content if method == "GET" else b"")


@pytest.mark.slow
@pytest.mark.parametrize("name", [image.repository.value for image in everything()])
def test_manifests(server: str, name: str) -> None:
    image = by_name(name)
    check(server, url(image, image.tag), image.manifest, image.digest)
    for part in image.walk():
        check(server, url(part, part.digest), part.manifest, part.digest)


@pytest.mark.slow
@pytest.mark.parametrize("name", [image.repository.value for image in everything()])
def test_blobs(server: str, name: str) -> None:
    """OCI distribution-spec 1.1, "Pulling blobs"; clients name no types for them."""
    for part in by_name(name).walk():
        for digest, content in part.blobs.items():
            for method in ("GET", "HEAD"):
                answer = ask(server, f"/v2/{name}/blobs/{digest}", "*/*", method)
                assert answer.status_code == 200
                assert answer.headers["Content-Length"].strip() == str(len(content))
                assert answer.headers["Content-Type"] == "application/octet-stream"
                assert answer.headers["Docker-Content-Digest"] == str(digest)
                assert "Content-Encoding" not in answer.headers
                assert answer.content == (content if method == "GET" else b"")


def test_no_redirect_from_ours(server: str, kind: web.Kind) -> None:
    if kind == "production":
        return  # TREE: mod_dir redirects there before anything else is asked
    image = by_name("multi/oci")
    for reference in (image.tag, image.digest):
        answer = requests.get(
            f"http://{server}{url(image, reference)}", allow_redirects=False, timeout=TIMEOUT
        )
        assert answer.status_code == 200


@pytest.mark.slow
def test_sha512_manifest(kind: web.Kind) -> None:
    image = by_name("odd/sha512")
    digest = Digest.of(image.manifest.content, "sha512")
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            trees.put(driver, image)
            content, media_type = image.manifest.content, image.manifest.media_type
            driver.put_manifest(image.repository, content, media_type, expected=digest)
        with web.serve(kind, folder / "tree") as server:
            check(server, url(image, digest), image.manifest, digest)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["multi/docker", "multi/oci"])
@pytest.mark.parametrize(
    ("accept", "expects_index"),
    [
        (ALL_TYPES, True),
        ("*/*", True),
        (f"{media_types.DOCKER_LIST}, {media_types.OCI_INDEX}", True),
        (
            f"{media_types.DOCKER_MANIFEST}, {media_types.DOCKER_LIST}, {media_types.OCI_INDEX}",
            True,
        ),
    ],
)
def test_who_knows_lists_gets_the_list(
    server: str, name: str, accept: str, expects_index: bool
) -> None:
    image = by_name(name)
    check(server, url(image, image.tag), image.manifest, image.digest, accept=accept)


def test_who_knows_no_lists_gets_the_default(server: str) -> None:
    image = by_name("multi/docker")
    accept = f"{media_types.DOCKER_MANIFEST}, {media_types.DOCKER_SCHEMA1_SIGNED}"
    child = image.children[0]
    check(server, url(image, image.tag), child.manifest, child.digest, accept=accept)


def test_many_accept_lines(server: str, root: Path) -> None:
    """skopeo, podman and buildah send one line for each type, the OCI manifest first."""
    import http.client

    image = by_name("multi/docker")
    connection = http.client.HTTPConnection(server, timeout=TIMEOUT)
    connection.putrequest("GET", url(image, image.tag))
    for media_type in (
        media_types.OCI_MANIFEST,
        media_types.DOCKER_MANIFEST,
        media_types.DOCKER_SCHEMA1_SIGNED,
        media_types.DOCKER_LIST,
        media_types.OCI_INDEX,
    ):
        connection.putheader("Accept", media_type)
    connection.endheaders()
    assert connection.getresponse().read() == image.manifest.content
    connection.close()


@pytest.mark.parametrize("accept", ["text/plain", "application/json", "image/png;q=0.1", ""])
def test_nobody_is_turned_away_for_what_they_accept(server: str, accept: str) -> None:
    """A registry has one manifest to give, and gives it whatever is accepted."""
    image = by_name("multi/oci")
    check(server, url(image, image.tag), image.manifest, image.digest, accept=accept)


def test_the_root_of_the_api(server: str) -> None:
    for path in ("/v2/", "/v2"):
        answer = ask(server, path)
        assert answer.json() == {}
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.slow
def test_lists(server: str) -> None:
    answer = ask(server, "/v2/_catalog")
    assert answer.headers["Content-Type"] == "application/json"
    names = sorted(image.repository.value for image in everything())
    assert answer.json() == {"repositories": names}
    for name in names:
        answer = ask(server, f"/v2/{name}/tags/list")
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json() == {"name": name, "tags": [str(by_name(name).tag)]}


def test_ranges(server: str) -> None:
    """RFC 9110, section 14."""
    image = by_name("openstack/plain")
    digest, content = next(iter(image.blobs.items()))
    target = f"http://{server}/v2/{image.repository}/blobs/{digest}"

    def part(value: str, **more: str) -> requests.Response:
        headers = {"Range": value, "Accept-Encoding": "identity", **more}
        return requests.get(target, headers=headers, timeout=TIMEOUT)

    answer = part("bytes=10-19")
    assert (answer.status_code, answer.content) == (206, content[10:20])
    assert answer.headers["Content-Range"] == f"bytes 10-19/{len(content)}"
    # RFC 9110 lets a server refuse the second; clients that send it expect no whole blob.
    for beyond in (f"bytes={len(content)}-", "bytes=500-0"):
        answer = part(beyond)
        assert answer.status_code == 416
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json()["errors"][0]["code"] == "SIZE_INVALID"


def test_conditions(server: str) -> None:
    """RFC 9110, section 13; what a server calls an ETag, it must know again."""
    image = by_name("openstack/plain")
    digest = next(iter(image.blobs))
    path = f"/v2/{image.repository}/blobs/{digest}"
    etag = ask(server, path).headers["ETag"]
    target = f"http://{server}{path}"

    def status(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.get(target, headers=named, timeout=TIMEOUT).status_code

    assert status(If_None_Match=etag) == 304
    assert status(If_None_Match='"other"') == 200
    assert status(Range="bytes=0-0", If_Range='"other"') == 200
    assert status(Range="bytes=0-0", If_Range=etag) == 206


def test_conditions_on_manifests(server: str) -> None:
    image = by_name("base")
    for reference in (image.tag, image.digest):
        etag = ask(server, url(image, reference)).headers["ETag"]
        answer = requests.get(
            f"http://{server}{url(image, reference)}",
            headers={"Accept": ALL_TYPES, "If-None-Match": etag},
            timeout=TIMEOUT,
        )
        assert answer.status_code == 304


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/base/blobs/sha256:" + "0" * 64, 404, "BLOB_UNKNOWN"),
        ("/v2/base/blobs/sha256:0", 400, "DIGEST_INVALID"),
        ("/v2/base/blobs/nonsense", 400, "DIGEST_INVALID"),
        ("/v2/base/manifests/sha256:" + "0" * 64, 404, "MANIFEST_UNKNOWN"),
        ("/v2/base/manifests/sha256:0", 400, "DIGEST_INVALID"),
        ("/v2/base/manifests/absent", 404, "MANIFEST_UNKNOWN"),
        ("/v2/absent/manifests/1.0", 404, "MANIFEST_UNKNOWN"),
        ("/v2/absent/tags/list", 404, "NAME_UNKNOWN"),
        ("/elsewhere", 404, "UNSUPPORTED"),
    ],
)
def test_errors(server: str, kind: web.Kind, path: str, status: int, code: str) -> None:
    """OCI distribution-spec 1.1, "Error Codes"."""
    answer = ask(server, path)
    if kind == "production" and not path.startswith("/v2/"):
        assert answer.status_code == 404
        return
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert [error["code"] for error in answer.json()["errors"]] == [code]


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "TRACE", "OPTIONS"])
def test_it_is_read_only(server: str, kind: web.Kind, method: str) -> None:
    for path in ("/v2/base/blobs/uploads/", "/v2/base/manifests/1.0", "/v2/_catalog"):
        answer = ask(server, path, method=method)
        if kind == "production" and method == "TRACE":
            continue  # TraceEnable belongs to the virtual host
        assert answer.status_code == 405, path
        allowed = {name.strip() for name in answer.headers["Allow"].split(",")} - {""}
        if kind == "production":
            allowed -= {"TRACE"}
        assert allowed == {"GET", "HEAD"}
        assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"
    assert ask(server, "/v2/base/manifests/1.0").content == by_name("base").manifest.content


def test_private_state_is_private(server: str, kind: web.Kind, root: Path) -> None:
    pool = next(path for path in (root / ".local-export" / "pool").rglob("*") if path.is_file())
    image = by_name("base")
    inside = f"/v2/base/manifests/{image.digest}"
    private = [f"/{pool.relative_to(root)}", "/.local-export/", "/v2/.htaccess"]
    private += [f"{inside}/.htaccess", "/v2/base/../../.local-export/"]
    if kind != "production":  # it serves whatever file is in the tree
        private += [f"{inside}/index.json", "/v2/base/.tags/1.0/index.json", "/v2/base/"]
        private += ["/v2/base/manifests/1.0.type-map", "/v2/multi/oci/.defaults/1.0/index.json"]
    for path in private:
        prepared = requests.Request("GET", f"http://{server}/").prepare()
        prepared.url = f"http://{server}{path}"  # requests would tidy it up
        with requests.Session() as session:
            assert session.send(prepared, timeout=TIMEOUT).status_code in (400, 403, 404), path


def test_json_keeps_its_bytes(server: str) -> None:
    image = by_name("base")
    answer = ask(server, url(image, "1.0"))
    assert json.loads(answer.content) == json.loads(image.manifest.content)
    assert Digest.of(answer.content) == image.digest
