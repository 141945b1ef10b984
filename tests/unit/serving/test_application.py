# SPDX-License-Identifier: Apache-2.0
"""What the embedded server's application says in its headers, whatever the answer is."""

from __future__ import annotations

import gc
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from werkzeug import test

from image_uploader_plugins import media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.reference import RepositoryName
from image_uploader_plugins.serving import ranges
from image_uploader_plugins.serving.application import TreeServer
from image_uploader_plugins.testing import images
from tests.support import trees
from tests.support.descriptors import descriptors

IMAGE = next(image for image in images.corpus() if image.repository.value == "multi/docker")
REPOSITORY = f"/v2/{IMAGE.repository}"
BY_TAG = f"{REPOSITORY}/manifests/{IMAGE.tag}"
BY_DIGEST = f"{REPOSITORY}/manifests/{IMAGE.digest}"
CHILD = IMAGE.children[0]
BLOB = f"{REPOSITORY}/blobs/{next(iter(CHILD.blobs))}"
ABSENT = "sha256:" + "0" * 64
FOR_EVER = "max-age=31536000, immutable"


class Client(test.Client):
    """A client that reads each answer to its end, and has it closed."""

    def open(self, *args: Any, **kwargs: Any) -> test.TestResponse:
        return super().open(*args, buffered=True, **kwargs)


@pytest.fixture
def tree(root: Path) -> Path:
    with LocalExportDriver(root) as driver:
        trees.put(driver, IMAGE)
    return root


@pytest.fixture
def client(tree: Path) -> Client:
    return Client(TreeServer(tree))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", [BY_DIGEST, BLOB])
def test_what_a_digest_names_is_that_for_ever(client: Client, target: str, method: str) -> None:
    etag = f'"{target.rpartition("/")[2]}"'
    for status, asked in (
        (200, {}),
        (304, {"If-None-Match": etag}),
        *([(206, {"Range": "bytes=0-0"})] if method == "GET" else []),
        *([(206, {"Range": "bytes=0-0,2-2"})] if method == "GET" else []),
    ):
        answer = client.open(target, method=method, headers=asked)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (status, FOR_EVER)
        assert answer.headers["ETag"] == etag
        assert "Vary" not in answer.headers


@pytest.mark.parametrize(
    "target",
    [
        *("/", "/v2/", "/v2/_catalog", BY_TAG, f"{REPOSITORY}/tags/list"),
        *(f"{REPOSITORY}/tags/list?n=1", f"{REPOSITORY}/referrers/{IMAGE.digest}"),
    ],
)
def test_what_can_move_is_asked_for_again(client: Client, target: str) -> None:
    answer = client.get(target)
    etag = answer.headers["ETag"]
    for status, answered in (
        (200, answer),
        (304, client.get(target, headers={"If-None-Match": etag})),
        (200, client.get(target, headers={"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"})),
        (405, client.put(target)),
    ):
        assert answered.status_code == status
        assert answered.headers["Cache-Control"] == "no-cache"
        varies = {BY_TAG: "Accept", "/": "Accept-Encoding"}
        assert answered.headers.get("Vary") == varies.get(target)
        assert "Last-Modified" not in answered.headers


@pytest.mark.parametrize(
    ("target", "asked", "status"),
    [
        (f"{REPOSITORY}/manifests/absent", {}, 404),
        (f"{REPOSITORY}/manifests/{ABSENT}", {}, 404),
        (f"{REPOSITORY}/blobs/{ABSENT}", {}, 404),
        (f"{REPOSITORY}/blobs/sha256:0", {}, 400),
        ("/elsewhere", {}, 404),
        (BLOB, {"Range": "bytes=9999999-"}, 416),
        (BY_DIGEST, {"Range": "bytes=9999999-"}, 416),
        (BY_TAG, {"Range": "bytes=9999999-"}, 416),
        (BLOB, {"If-Match": '"other"'}, 412),
    ],
)
def test_errors_are_not_kept(
    client: Client, target: str, asked: dict[str, str], status: int
) -> None:
    answer = client.get(target, headers=asked)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (status, "no-cache")
    assert answer.content_type == "application/json"
    by_tag = "/manifests/" in target and "sha256:" not in target
    assert answer.headers.get("Vary") == ("Accept" if by_tag else None)
    assert "ETag" not in answer.headers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"If-None-Match": '"{0}"'}, 304),
        ({"If-None-Match": 'W/"{0}"'}, 304),
        ({"If-None-Match": '"x", W/"y" , "{0}"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-None-Match": '"{0}x", "x{0}"'}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"{0}"'}, 200),
        ({"If-Match": 'W/"{0}"'}, 412),
        ({"If-Match": "*", "If-None-Match": "*"}, 304),
        ({"Range": "bytes=0-0", "If-Range": '"{0}"'}, 206),
        ({"Range": "bytes=0-0", "If-Range": 'W/"{0}"'}, 200),
        ({"Range": "bytes=0-0", "If-Range": '"x"'}, 200),
        ({"Range": "bytes=0-0", "If-Range": "Fri, 01 Jan 2100 00:00:00 GMT"}, 200),
        ({"Range": "bytes=0-0", "If-None-Match": '"{0}"'}, 304),
        ({"Range": "x=0-0"}, 200),
    ],
)
@pytest.mark.parametrize("target", [BY_TAG, BLOB])
def test_conditions(client: Client, target: str, asked: dict[str, str], status: int) -> None:
    """RFC 9110, 13.1 and 13.2.2; the validator of a tag's manifest is its digest."""
    digest = str(IMAGE.digest) if target == BY_TAG else BLOB.rpartition("/")[2]
    headers = {name: value.format(digest) for name, value in asked.items()}
    assert client.get(target, headers=headers).status_code == status


def test_two_manifests_have_two_validators(client: Client, tree: Path) -> None:
    """A list and its child have two validators, also under one tag and with one time and size."""
    accept = {"Accept": media_types.DOCKER_MANIFEST}
    whole, child = client.get(BY_TAG), client.get(BY_TAG, headers=accept)
    assert child.headers["ETag"] == f'"{CHILD.digest}"'
    known = {"If-None-Match": whole.headers["ETag"]}
    assert client.get(BY_TAG, headers=accept | known).data == CHILD.manifest.content
    with LocalExportDriver(tree) as driver:
        driver.put_manifest(
            IMAGE.repository, CHILD.manifest.content, CHILD.manifest.media_type, tag=IMAGE.tag
        )
    assert client.get(BY_TAG, headers=known).data == CHILD.manifest.content


@pytest.mark.parametrize("target", [BY_TAG, BY_DIGEST])
@pytest.mark.parametrize("damage", ["flipped", "cut off", "longer"])
def test_a_damaged_manifest_is_not_sent(
    client: Client, tree: Path, target: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets an error, and one line of the log names file and digest."""
    folder = tree / "v2" / IMAGE.repository.value / "manifests" / str(IMAGE.digest)
    path = next(folder.glob("manifest.*"))
    content = path.read_bytes()
    path.unlink()
    flipped = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    damaged = {"flipped": flipped, "cut off": content[:-1], "longer": content + b" "}
    path.write_bytes(damaged[damage])
    for asked in ({}, {"Range": "bytes=0-9"}, {"If-None-Match": "*"}):
        caplog.clear()
        answer = client.get(target, headers=asked)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (500, "no-cache")
        assert answer.json and answer.json["errors"][0]["code"] == "UNKNOWN"
        (line,) = [record.getMessage() for record in caplog.records]
        assert str(path) in line and str(IMAGE.digest) in line
    child = f"{REPOSITORY}/manifests/{CHILD.digest}"
    assert client.get(child).data == CHILD.manifest.content


def manifest_file(tree: Path) -> Path:
    folder = tree / "v2" / IMAGE.repository.value / "manifests" / str(IMAGE.digest)
    return next(folder.glob("manifest.*"))


def test_a_manifest_is_hashed_once(
    client: Client, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is hashed again when its file is another one, and only then."""
    hashed: list[Digest] = []
    verify = Digest.verify

    def counted(self: Digest, content: bytes) -> None:
        hashed.append(self)
        verify(self, content)

    monkeypatch.setattr(Digest, "verify", counted)
    for target in (BY_TAG, BY_DIGEST) * 5:
        assert client.get(target).data == IMAGE.manifest.content
    assert hashed == [IMAGE.digest]
    path = manifest_file(tree)
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    for target in (BY_TAG, BY_DIGEST) * 5:
        assert client.get(target).data == IMAGE.manifest.content
    assert hashed == [IMAGE.digest] * 2


@pytest.mark.parametrize("target", [BY_TAG, BY_DIGEST])
def test_what_is_kept_hides_no_damage(client: Client, tree: Path, target: str) -> None:
    """A manifest that was served is not served any more when its file was changed in place."""
    assert client.get(target).status_code == 200
    path = manifest_file(tree)
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"[")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert client.get(target).status_code == 500
    path.unlink()
    assert client.get(target).status_code == 404


def test_a_list_is_parsed_once(client: Client, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    parse = documents.parse_tags_list

    def counted(name: RepositoryName, text: bytes) -> set[str]:
        parsed.append(text)
        return parse(name, text)

    monkeypatch.setattr(documents, "parse_tags_list", counted)
    for query in ("", "?n=1", "?last=0", "?n=0") * 5:
        assert client.get(f"{REPOSITORY}/tags/list{query}").status_code == 200
    assert len(parsed) == 1
    with LocalExportDriver(tree) as driver:
        trees.put(driver, IMAGE, "another")
    parsed.clear()  # what the driver did
    for _ in range(5):
        assert b'"another"' in client.get(f"{REPOSITORY}/tags/list").data
    assert len(parsed) == 1


def test_a_list_that_looks_unchanged_is_read(client: Client, tree: Path) -> None:
    """Two lists may have one size and one time, and even one inode."""
    path = tree / "v2" / IMAGE.repository.value / "tags" / "list"
    target, before = f"{REPOSITORY}/tags/list", path.stat()
    mine = f'"{IMAGE.tag}"'.encode()
    other = b'"' + b"x" * (len(mine) - 2) + b'"'
    assert mine in client.get(target).data
    with path.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(content.replace(mine, other))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert other in client.get(target).data


def test_a_large_manifest_is_read_in_pieces(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too large to be kept is hashed for each answer, piece by piece."""
    monkeypatch.setattr(ranges, "CHUNK", 100)
    client = Client(TreeServer(tree))
    for _ in range(2):
        assert client.get(BY_TAG).data == IMAGE.manifest.content
        assert (
            client.get(BY_TAG, headers={"Range": "bytes=7-9"}).data
            == (IMAGE.manifest.content[7:10])
        )
    manifest_file(tree).write_bytes(b"x" * len(IMAGE.manifest.content))
    assert client.get(BY_TAG).status_code == 500


@pytest.mark.slow
def test_every_file_is_closed(tree: Path) -> None:
    """Each file is closed by us; Python warns of those that it has to close itself."""
    folder = tree / "v2" / IMAGE.repository.value / "manifests" / str(CHILD.digest)
    for path in folder.glob("manifest.*"):
        path.unlink()
        path.write_bytes(b"damaged")
    gc.collect()  # what earlier tests have left is none of ours
    before = descriptors()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        for target, method, asked, status in (
            (BLOB, "GET", {}, 200),
            (BLOB, "HEAD", {}, 200),
            (BLOB, "GET", {"If-None-Match": "*"}, 304),
            (BLOB, "GET", {"If-Match": '"x"'}, 412),
            (BLOB, "GET", {"Range": "bytes=0-0"}, 206),
            (BLOB, "GET", {"Range": "bytes=0-0,2-2"}, 206),
            (BLOB, "GET", {"Range": "bytes=99999999-"}, 416),
            (BY_TAG, "GET", {}, 200),
            (f"{REPOSITORY}/manifests/{CHILD.digest}", "GET", {}, 500),
        ):
            answer = test.Client(TreeServer(tree)).open(target, method=method, headers=asked)
            assert answer.status_code == status
            answer.close()
            del answer
        gc.collect()
    assert not [warning.message for warning in warned]
    # What is in the log keeps an error, and an error what it is about.
    assert not descriptors() - before


@pytest.mark.parametrize(
    ("origin", "allowed", "vary"),
    [
        ("https://ui.example", "https://ui.example", "Origin"),
        ("http://ui.example", None, "Origin"),
        ("null", None, "Origin"),
        ("", None, "Origin"),
    ],
)
def test_origins_of_a_list(tree: Path, origin: str, allowed: str | None, vary: str) -> None:
    client = Client(TreeServer(tree, ["https://ui.example", "https://other.example"]))
    for target, method in ((BLOB, "GET"), (BY_TAG, "GET"), ("/x", "GET"), (BY_TAG, "OPTIONS")):
        answer = client.open(target, method=method, headers={"Origin": origin} if origin else {})
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
        assert answer.headers["Vary"] == (f"Accept, {vary}" if target == BY_TAG else vary)


def test_every_origin(tree: Path) -> None:
    client = Client(TreeServer(tree, ["*"]))
    for target in (BLOB, BY_TAG, "/x"):
        answer = client.get(target)
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Docker-Content-Digest" in answer.headers["Access-Control-Expose-Headers"]
        assert "Origin" not in answer.headers.get("Vary", "")
    asked = client.options(BLOB)
    assert (asked.status_code, asked.data) == (204, b"")
    assert asked.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
    assert client.put(BLOB).status_code == 405


def test_no_origin_unless_allowed(client: Client) -> None:
    answer = client.options(BLOB, headers={"Origin": "https://ui.example"})
    assert answer.status_code == 405
    assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
