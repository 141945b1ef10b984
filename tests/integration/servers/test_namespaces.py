# SPDX-License-Identifier: Apache-2.0
"""One mirror for all registries: ``?ns=`` names the one that an image is wanted of.

containerd sends it to whatever stands in hosts.toml. If the tree has images whose
names begin with this registry, it is one of them, or none. Otherwise it is an image
whose name begins with no registry, or none: never that of another registry.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import quick, raw, trees, web
from tests.support.clients import Run
from tests.support.content import referrer
from tests.support.mirrors import IMAGE, REGISTRY, configured, fetched

KINDS: tuple[web.Kind, ...] = ("nginx", "httpd", "production", "embedded")


def image(name: str, tag: str = "1.0") -> Image:
    return images.image(name, tag, [images.layer({"name": name.encode()}, oci=True)], oci=True)


PLAIN, ONLY_PLAIN = image("app/web"), image("app/plain")
QUAY, HUB = image("quay.io/app/web"), image("docker.io/app/web", "2.0")
OFFICIAL, NOT_OFFICIAL = image("docker.io/library/nginx"), image("docker.io_443/library/nginx")
WITH_PORT, LOCAL = image("registry_5000/app/web"), image("localhost/app/web")
ADDRESS = image("0000-0000-0000-0000-0000-0000-0000-0001_5000/app/web")
ABOUT = referrer(QUAY, "application/vnd.example.sbom", "of quay's")
SIGNED = referrer(QUAY, "application/vnd.example.signature", "quay's")
TAGS = ["1", "2", "3", "4", "5"]
TAGGED = [image("quay.io/app/many", tag) for tag in TAGS]
OTHERS_TAGGED = [image("app/many", tag) for tag in ("3", "other")]
PREFIXED = dataclasses.replace(IMAGE, repository=RepositoryName(f"{REGISTRY}/{IMAGE.repository}"))
ALL = (
    *(PLAIN, ONLY_PLAIN, QUAY, HUB, OFFICIAL, NOT_OFFICIAL, WITH_PORT, LOCAL, ADDRESS),
    *(ABOUT, SIGNED),
    *(*TAGGED, *OTHERS_TAGGED, PREFIXED),
)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            for each in ALL:
                trees.put(driver, each)
        yield folder / "tree"


@pytest.fixture(scope="module", params=quick.alone({"embedded"}, KINDS))
def server(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    with web.serve(request.param, root) as server:
        yield server


def get(server: str, path: str, query: str, method: str = "GET") -> tuple[int, str | None, bytes]:
    """Return status, digest and body."""
    target = f"/v2/{path}?{query}"
    accept = ", ".join(media_types.MANIFEST_TYPES) if "/manifests/" in path else "*/*"
    status, headers, body = raw.get(server, target, method, Accept=accept)
    if status == 301:  # the production vhost, for digests; clients follow
        target = headers["Location"].partition(server)[2]
        status, headers, body = raw.get(server, target, method, Accept=accept)
    return status, headers["Docker-Content-Digest"], body


@dataclasses.dataclass(frozen=True)
class Missing:
    """What is not there: the code for its manifests, its blobs and its list of tags."""

    manifests: str = "NAME_UNKNOWN"
    blobs: str = "NAME_UNKNOWN"
    tags: str = "NAME_UNKNOWN"


NOT_HERE, OTHER = Missing("MANIFEST_UNKNOWN", "BLOB_UNKNOWN"), Missing()


def check(server: str, query: str, name: str, expected: Image | Missing) -> None:
    if isinstance(expected, Missing):
        check_missing(server, query, name, expected)
        return
    manifest = expected.manifest.content
    for reference in (expected.tag, expected.digest):
        path = f"{name}/manifests/{reference}"
        assert get(server, path, query) == (200, str(expected.digest), manifest)
        assert get(server, path, query, "HEAD") == (200, str(expected.digest), b"")
    for digest, content in expected.blobs.items():
        assert get(server, f"{name}/blobs/{digest}", query) == (200, str(digest), content)
    status, _, body = get(server, f"{name}/tags/list", query)
    assert (status, json.loads(body)["name"]) == (200, str(expected.repository))


def check_missing(server: str, query: str, name: str, expected: Missing) -> None:
    asked = [(f"{name}/manifests/{tag}", expected.manifests) for tag in ("1.0", "2.0")]
    for each in ALL:
        asked.append((f"{name}/manifests/{each.digest}", expected.manifests))
        asked += [(f"{name}/blobs/{digest}", expected.blobs) for digest in each.blobs]
    for path, code in (*asked, (f"{name}/tags/list", expected.tags)):
        status, _, body = get(server, path, query)
        assert (status, json.loads(body)["errors"][0]["code"]) == (404, code), path
    # The specification has no 404 for referrers.
    status, _, body = get(server, f"{name}/referrers/{QUAY.digest}", query)
    assert (status, json.loads(body)["manifests"]) == (200, [])
    for path in (f"{name}/referrers/sha256:0", f"{name}/blobs/x", f"{name}/manifests/sha256:0"):
        status, _, body = get(server, path, query)
        assert (status, json.loads(body)["errors"][0]["code"]) == (400, "DIGEST_INVALID"), path


@pytest.mark.parametrize(
    ("query", "name", "expected"),
    [
        ("ns=quay.io", "app/web", QUAY),
        ("ns=quay.io&x=y", "app/web", QUAY),
        ("x=y&ns=quay.io", "app/web", QUAY),
        ("ns=docker.io", "app/web", HUB),
        # A client with a mirror's path sends it, too.
        ("ns=quay.io", "quay.io/app/web", QUAY),
        ("ns=docker.io", "docker.io/library/nginx", OFFICIAL),
        ("ns=registry:5000", "registry_5000/app/web", WITH_PORT),
        # Docker Hub has several names.
        ("ns=docker.io", "library/nginx", OFFICIAL),
        ("ns=index.docker.io", "library/nginx", OFFICIAL),
        ("ns=registry-1.docker.io", "library/nginx", OFFICIAL),
        ("ns=registry-1.docker.io", "docker.io/library/nginx", OFFICIAL),
        ("ns=registry-1.docker.io:443", "library/nginx", OTHER),
        ("ns=index.docker.io.example.com", "library/nginx", OTHER),
        # A port, as containerd encodes it.
        ("ns=registry:5000", "app/web", WITH_PORT),
        ("ns=registry%3A5000", "app/web", WITH_PORT),
        ("ns=registry%3a5000", "app/web", WITH_PORT),
        ("ns=registry:5001", "app/web", PLAIN),
        ("ns=quay.io:443", "app/web", PLAIN),
        ("ns=localhost", "app/web", LOCAL),
        ("ns=localhost:5000", "app/web", PLAIN),
        # Of a registry that is there, all or nothing.
        ("ns=quay.io", "app/plain", NOT_HERE),
        ("ns=docker.io", "quay.io/app/web", NOT_HERE),
        ("ns=quay.io", "quay.io/quay.io/app/web", NOT_HERE),
        ("ns=docker.io", "nginx", NOT_HERE),
        # Of another one, what is no registry's.
        ("ns=ghcr.io", "app/web", PLAIN),
        ("ns=ghcr.io", "app/plain", ONLY_PLAIN),
        ("ns=index.json", "app/plain", ONLY_PLAIN),
        ("ns=ghcr.io", "app/absent", OTHER),
        ("ns=ghcr.io", "quay.io/app/web", OTHER),
        ("ns=ghcr.io", "docker.io/library/nginx", OTHER),
        ("ns=ghcr.io", "registry_5000/app/web", OTHER),
        ("ns=ghcr.io", "localhost/app/web", OTHER),
        ("ns=ghcr.io", str(ADDRESS.repository), OTHER),
        ("ns=quay.io:443", "quay.io/app/web", OTHER),
        # The first part of a name is no registry because somebody says so.
        ("ns=app", "app/web", PLAIN),
        ("ns=app", "web", OTHER),
        ("ns=library", "app/plain", ONLY_PLAIN),
        # The first one counts.
        ("ns=quay.io&ns=docker.io", "app/web", QUAY),
        ("x=y&ns=quay.io&ns=docker.io", "app/web", QUAY),
        ("ns=ghcr.io&ns=docker.io", "app/web", PLAIN),
        ("ns=..&ns=docker.io", "app/web", OTHER),
        ("ns=&ns=docker.io", "app/web", PLAIN),
        ("NS=docker.io", "app/web", PLAIN),
        ("xns=docker.io", "app/web", PLAIN),
        ("ns=", "app/web", PLAIN),
        ("ns", "app/web", PLAIN),
        ("ns=0", "app/web", PLAIN),
        ("x=ns=docker.io", "app/web", PLAIN),
    ],
)
def test_whose_image_it_is(server: str, query: str, name: str, expected: Image | Missing) -> None:
    check(server, query, name, expected)


@pytest.mark.parametrize(
    "value",
    [
        *("QUAY.IO", "Quay.io", "quay.io/app", "quay.io%2Fapp", "quay%2Eio", "registry_5000"),
        *(".", "..", "../v2", "..%2Fv2", "%2e%2e", "%2e%2e%2fv2", "/", "%2F", "./quay.io"),
        *(".local-export", ".catalog", "_catalog", "*", "a" * 2000, "a." * 127 + "io", "quay..io"),
        *("quay.io%00", "quay.io%0a", "$uri", "%24uri", "-quay.io", "quay.io-", "quay.io.", "+"),
        *("quay.io:", "quay.io:x", "registry:5000:5000", "quay.io:500000", "registry%3A", ":5000"),
        *("[::1]:5000", "%5B%3A%3A1%5D%3A5000", "[::1]", "quay.io;x", "quay.io%3B", "me@quay.io"),
    ],
)
def test_what_is_no_registry_s_name_has_no_image(server: str, value: str) -> None:
    for name in ("app/web", "quay.io/app/web", "v2/app/web"):
        check_missing(server, f"ns={value}", name, OTHER)


def listed(server: str, target: str) -> tuple[list[str], list[str]]:
    """Return the tags of a list in windows, and the targets that led to them."""
    tags, targets = [], []
    while target:
        status, headers, body = raw.get(server, target)
        assert status == 200, target
        targets.append(target)
        tags += json.loads(body)["tags"]
        target = headers.get("Link", "").partition("<")[2].partition(">")[0]
    return tags, targets


@pytest.mark.parametrize(
    ("name", "ns", "expected"),
    [
        ("app/many", "quay.io", TAGS),
        ("quay.io/app/many", "quay.io", TAGS),
        ("app/many", "registry%3A5001", ["3", "other"]),
    ],
)
@pytest.mark.parametrize("query", ["n=1&ns={}", "ns={}&n=1"])
def test_windows_of_tags(server: str, name: str, ns: str, expected: list[str], query: str) -> None:
    path = f"/v2/{name}/tags/list"
    tags, targets = listed(server, f"{path}?{query.format(ns)}")
    assert tags == expected
    after = [f"{path}?ns={ns}&n=1&last={tag}" for tag in expected[:-1]]
    assert targets[1:] == after


def test_windows_after_a_tag(server: str) -> None:
    for query in ("ns=quay.io&last=3", "last=3&ns=quay.io"):
        status, _, body = get(server, "app/many/tags/list", query)
        assert (status, json.loads(body)["tags"]) == (200, ["4", "5"])
    status, _, body = get(server, "app/many/tags/list", "ns=quay.io&n=x")
    assert (status, json.loads(body)["errors"][0]["code"]) == (400, "PAGINATION_NUMBER_INVALID")
    # nginx answers this with a redirect.
    target = "/v2/app/many/tags/list?ns=quay.io&last=%33"
    status, headers, body = raw.get(server, target)
    if status == 307:
        status, headers, body = raw.get(server, headers["Location"])
    assert (status, json.loads(body)["tags"]) == (200, ["4", "5"])


def test_referrers(server: str) -> None:
    def listed(name: str, query: str) -> list[str]:
        status, _, body = get(server, f"{name}/referrers/{QUAY.digest}", query)
        assert status == 200
        return sorted(each["digest"] for each in json.loads(body)["manifests"])

    both = sorted(str(each.digest) for each in (ABOUT, SIGNED))
    assert listed("app/web", "ns=quay.io") == listed("quay.io/app/web", "ns=quay.io") == both
    for kind in ("application/vnd.example.sbom", "application%2Fvnd.example.sbom"):
        for query in (f"ns=quay.io&artifactType={kind}", f"artifactType={kind}&ns=quay.io"):
            assert listed("app/web", query) == [str(ABOUT.digest)]
    for query in ("ns=docker.io", "ns=ghcr.io", "ns=QUAY.IO"):
        assert listed("app/web", query) == listed("quay.io/app/web", query) == []


@pytest.fixture(scope="module")
def path_names() -> Iterator[Path]:
    """A tree whose names begin with no registry."""
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            for each in (PLAIN, ONLY_PLAIN, *OTHERS_TAGGED):
                trees.put(driver, each)
        yield folder / "tree"


@pytest.mark.parametrize("kind", quick.alone({"embedded"}, KINDS))
def test_a_tree_without_full_names(kind: web.Kind, path_names: Path) -> None:
    with web.serve(kind, path_names) as server:
        for value in ("quay.io", "docker.io", "registry%3A5000", "localhost", "192.0.2.1:5000"):
            for expected in (PLAIN, ONLY_PLAIN):
                check(server, f"ns={value}", str(expected.repository), expected)
            check(server, f"ns={value}", "app/absent", OTHER)


def test_what_has_no_name_is_the_same_for_all(server: str) -> None:
    for path in ("", "_catalog"):
        for value in ("quay.io", "..", "QUAY.IO"):
            assert get(server, path, f"ns={value}") == get(server, path, "")


@pytest.mark.slow
def test_containerd_s_mirror_of_everything(server: str, ctr: Run, tmp_path: Path) -> None:
    options = ("--mirror", f"http://{server}", "--for", "containerd")
    fetched(ctr, configured(tmp_path, *options, registry="*"))
