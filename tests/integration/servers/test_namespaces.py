# SPDX-License-Identifier: Apache-2.0
"""One mirror for all registries: ``?ns=`` names the one that an image is wanted of.

containerd sends it to whatever stands in hosts.toml. In a tree whose names begin with
their registry it is that registry's image, or none's; in any other it says nothing.
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


PLAIN = image("app/web")
QUAY, HUB = image("quay.io/app/web"), image("docker.io/app/web", "2.0")
ONLY_PLAIN = image("app/plain")
ABOUT = referrer(QUAY, "application/vnd.example.sbom", "of quay's")
PREFIXED = dataclasses.replace(IMAGE, repository=RepositoryName(f"{REGISTRY}/{IMAGE.repository}"))


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with web.open_folder() as folder:
        with LocalExportDriver(folder / "tree") as driver:
            for each in (PLAIN, QUAY, HUB, ONLY_PLAIN, ABOUT, PREFIXED):
                trees.put(driver, each)
        yield folder / "tree"


@pytest.fixture(scope="module", params=quick.alone({"embedded"}, KINDS))
def server(request: pytest.FixtureRequest, root: Path) -> Iterator[str]:
    with web.serve(request.param, root) as server:
        yield server


def get(server: str, path: str, query: str, method: str = "GET") -> tuple[int, str | None, bytes]:
    """Return status, digest and body."""
    target = f"/v2/{path}?{query}"
    accept = ", ".join(media_types.MANIFEST_TYPES)
    status, headers, body = raw.get(server, target, method, Accept=accept)
    if status == 301:  # the production vhost, for digests; clients follow
        target = headers["Location"].partition(server)[2]
        status, headers, body = raw.get(server, target, method, Accept=accept)
    return status, headers["Docker-Content-Digest"], body


@pytest.mark.parametrize("query", ["ns=quay.io", "ns=quay.io&x=y", "x=y&ns=quay.io"])
def test_it_is_that_registry_s(server: str, query: str) -> None:
    for reference in (QUAY.tag, QUAY.digest):
        path = f"app/web/manifests/{reference}"
        assert get(server, path, query) == (200, str(QUAY.digest), QUAY.manifest.content)
        assert get(server, path, query, "HEAD") == (200, str(QUAY.digest), b"")
    for digest, content in QUAY.blobs.items():
        assert get(server, f"app/web/blobs/{digest}", query) == (200, str(digest), content)
    status, _, body = get(server, "app/web/tags/list", query)
    assert (status, json.loads(body)["tags"]) == (200, ["1.0"])
    status, _, body = get(server, f"app/web/referrers/{QUAY.digest}", query)
    listed = [each["digest"] for each in json.loads(body)["manifests"]]
    assert (status, listed) == (200, [str(ABOUT.digest)])


def test_registries_are_told_apart(server: str) -> None:
    status, digest, _ = get(server, "app/web/manifests/2.0", "ns=docker.io")
    assert (status, digest) == (200, str(HUB.digest))
    for path in (
        "app/web/manifests/1.0",
        f"app/web/manifests/{QUAY.digest}",
        f"app/web/blobs/{next(iter(PLAIN.blobs))}",
        "app/plain/manifests/1.0",
        "app/plain/tags/list",
        "quay.io/app/web/manifests/1.0",
    ):
        assert get(server, path, "ns=docker.io")[0] == 404, path


@pytest.mark.parametrize(
    "value",
    [
        *("", "ghcr.io", "quay.io:443", "quay.io%3A443", "QUAY.IO", "quay.io/app", "quay.io%2Fapp"),
        *(".", "..", "../v2", "%2e%2e", ".local-export", "index.json", "_catalog", "*", "a" * 2000),
        *("quay.io%00", "quay.io%0a", "$uri", "%24uri", "-quay.io"),
    ],
)
def test_what_is_no_registry_here_says_nothing(server: str, value: str) -> None:
    path = "app/web/manifests/1.0"
    assert get(server, path, f"ns={value}") == (200, str(PLAIN.digest), PLAIN.manifest.content)
    assert get(server, "app/plain/manifests/1.0", f"ns={value}")[0] == 200


def test_what_has_no_name_is_the_same_for_all(server: str) -> None:
    for path in ("", "_catalog"):
        assert get(server, path, "ns=quay.io") == get(server, path, "")


@pytest.mark.slow
def test_containerd_s_mirror_of_everything(server: str, ctr: Run, tmp_path: Path) -> None:
    options = ("--mirror", f"http://{server}", "--for", "containerd")
    fetched(ctr, configured(tmp_path, *options, registry="*"))
