# SPDX-License-Identifier: Apache-2.0
"""A source registry that breaks its promises gets a clear error, and nowhere else."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from oslo_config import cfg
from tripleo_common.image import exception

from image_uploader_plugins import manifest, media_types, tripleo
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.web_server import Answer
from tests.support import trees
from tests.support.registry import TamperedRegistry

pytestmark = pytest.mark.slow

Change = Callable[[Answer, Message], Answer]

SERVED_AT = "192.0.2.1:8787"
IMAGE = images.image("ns/img", "1.0", [images.layer({"file": b"content" * 999})])
LAYER = IMAGE.manifest.layers[0].digest
INDEX = images.index(
    "ns/index", "1.0", [images.image("ns/index", None, [images.layer({"a": b"a"})])]
)


@pytest.fixture
def registry() -> TamperedRegistry:
    return TamperedRegistry([IMAGE, INDEX])


@pytest.fixture
def upload(source: str, conf: cfg.ConfigOpts, tmp_path: Path) -> Callable[..., Any]:
    def upload(name: str = "ns/img:1.0", **more: Any) -> Any:
        item = {"imagename": f"{source}/{name}", "push_destination": SERVED_AT, **more}
        path = tmp_path / "images.yaml"
        path.write_text(yaml.safe_dump({"container_images": [item]}))
        return tripleo.upload_files([str(path)], conf)

    return upload


@pytest.fixture(autouse=True)
def nothing_outside_the_tree(root: Path, tmp_path: Path) -> Iterator[None]:
    yield
    assert {path.name for path in tmp_path.iterdir()} <= {"images.yaml", root.name}


def untouched(root: Path) -> bool:
    """Nothing is visible, and nothing is left behind where nobody sees it."""
    names = {path.name for path in (root / "v2").rglob("*")}
    staged = list((root / ".local-export" / "staging").rglob("*"))
    empty = {".htaccess", ".no-referrers", "index.json", "_catalog", ".catalog", ".none"}
    return names <= empty and not staged


def body(*chunks: bytes, length: int | None = None) -> Change:
    """Other bytes, maybe said to be more than they are; chunked without a length."""

    def change(answer: Answer, headers: Message) -> Answer:
        size = sum(map(len, chunks)) if length is None else length
        return Answer(200, {**answer.headers, "Content-Length": str(size)}, chunks)

    return change


def endless(answer: Answer, headers: Message) -> Answer:
    return Answer(
        200, {"Content-Type": answer.headers["Content-Type"]}, itertools.repeat(b"x" * 65536)
    )


def manifest_of(**changes: Any) -> Change:
    """The image's manifest with some of its fields replaced."""
    fields = json.loads(IMAGE.manifest.content) | changes
    content = json.dumps(fields).encode()

    def change(answer: Answer, headers: Message) -> Answer:
        return Answer.of(content, media_types.DOCKER_MANIFEST)

    return change


def descriptor(**changes: Any) -> dict[str, Any]:
    layer: dict[str, Any] = json.loads(IMAGE.manifest.content)["layers"][0]
    return layer | changes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (body(b"wrong"), "has 5 bytes, expected"),
        (body(b"x" * IMAGE.manifest.layers[0].size), "content hashes to"),  # type: ignore[operator]
        (body(IMAGE.blobs[LAYER][:-1]), "bytes, expected"),
        (body(IMAGE.blobs[LAYER][:-1], length=len(IMAGE.blobs[LAYER])), "IncompleteRead|bytes"),
        (body(IMAGE.blobs[LAYER], b"more"), "bytes, expected"),
        (body(), "has 0 bytes, expected"),
        (endless, "bytes, expected"),
    ],
    ids=["short", "other", "cut", "truncated", "longer", "empty", "endless"],
)
def test_a_layer_that_is_not_what_was_promised(
    upload: Any, registry: TamperedRegistry, root: Path, change: Change, reason: str
) -> None:
    """Defects 9, 11, 12: such a blob was accepted, served and linked."""
    registry.tamper[f"blobs/{LAYER}"] = change
    with pytest.raises(requests.HTTPError, match=rf"ns/img:1\.0: blob {LAYER}: .*({reason})"):
        upload()
    assert not list((root / "v2" / "ns/img").glob(f"blobs/{LAYER}*"))
    assert not list((root / "v2" / "ns/img").glob("manifests/*"))
    assert trees.catalog(root) == []
    assert registry.asked(f"blobs/{LAYER}") == 5  # it may have been the network
    registry.tamper.clear()
    upload()
    assert not trees.problems(root)


def test_a_config_that_is_not_what_was_promised(
    upload: Any, registry: TamperedRegistry, root: Path
) -> None:
    """Defect 5."""
    config = IMAGE.manifest.config
    assert config and config.size
    registry.tamper[f"blobs/{config.digest}"] = body(b"x" * config.size)
    with pytest.raises(requests.HTTPError, match=f"blob {config.digest}: content hashes to"):
        upload()
    assert trees.catalog(root) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (manifest_of(layers=[descriptor(digest="/etc/passwd")]), "digest"),
        (manifest_of(layers=[descriptor(digest="sha256:../../../../etc/cron.d/x")]), "digest"),
        (manifest_of(config=descriptor(digest="../" * 9 + "tmp/x")), "digest"),
        (manifest_of(layers=[descriptor(digest="sha1:" + "0" * 40)]), "digest"),
        (manifest_of(layers=[descriptor(size=-5)]), "size"),
        (manifest_of(layers=[descriptor(size="1e9")]), "size"),
        (manifest_of(layers=[descriptor(mediaType='a/b"\nOptions +ExecCGI')]), "media type"),
        (manifest_of(layers="everything"), "layers"),
        (manifest_of(mediaType='x"\nSetHandler server-status'), "unknown manifest type"),
        (manifest_of(mediaType=media_types.DOCKER_LIST), "cannot have"),
        (manifest_of(schemaVersion=3), "schemaVersion"),
        (body(b"[" * 100_000), "manifest"),
        (body(b"\xff{}"), "not JSON"),
        (body(b" " * (manifest.SIZE_LIMIT + 1)), "exceeds"),
        (endless, "exceeds"),
    ],
)
def test_a_manifest_that_must_not_be(
    upload: Any, registry: TamperedRegistry, root: Path, change: Change, reason: str
) -> None:
    """Defects 1 and 3: files written anywhere, directives for the web server."""
    registry.tamper["manifests/"] = change
    with pytest.raises(exception.ImageUploaderException, match=rf"ns/img:1\.0: .*{reason}"):
        upload()
    assert untouched(root)
    assert registry.asked("manifests/") == 1  # it will not get better


def test_a_manifest_that_is_not_what_its_header_says(
    upload: Any, registry: TamperedRegistry, root: Path
) -> None:
    def change(answer: Answer, headers: Message) -> Answer:
        other = {"Docker-Content-Digest": str(Digest.of(b"other"))}
        return dataclasses.replace(answer, headers={**answer.headers, **other})

    registry.tamper["manifests/"] = change
    with pytest.raises(requests.HTTPError, match="content hashes to"):
        upload()
    assert untouched(root)


def test_another_image_for_a_digest(upload: Any, registry: TamperedRegistry, root: Path) -> None:
    registry.tamper["manifests/sha256"] = body(INDEX.manifest.content)
    with pytest.raises(requests.HTTPError, match="content hashes to"):
        upload(f"ns/img@{IMAGE.digest}")
    assert untouched(root)


def test_a_child_of_another_type_than_listed(
    upload: Any, registry: TamperedRegistry, root: Path
) -> None:
    listed = INDEX.children[0].descriptor(mediaType=media_types.OCI_MANIFEST)
    content = json.dumps(
        {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [listed]}
    ).encode()
    registry.manifests["ns/index", "1.0"] = Manifest.parse(content)
    with pytest.raises(exception.ImageUploaderException, match="listed as"):
        upload("ns/index:1.0", multi_arch=True)
    assert untouched(root)


def test_a_child_that_is_missing_leaves_no_tag(
    upload: Any, registry: TamperedRegistry, root: Path
) -> None:
    del registry.manifests["ns/index", str(INDEX.children[0].digest)]
    with pytest.raises(exception.ImageNotFoundException, match=str(INDEX.children[0].digest)):
        upload("ns/index:1.0", multi_arch=True)
    assert untouched(root)


def test_indexes_all_the_way_down(upload: Any, registry: TamperedRegistry, root: Path) -> None:
    nested: Image = INDEX.children[0]
    for _ in range(9):
        nested = images.index("ns/index", None, [nested], oci=True)
    registry.add(dataclasses.replace(nested, tag=INDEX.tag))
    with pytest.raises(exception.ImageUploaderException, match="nested deeper"):
        upload("ns/index:1.0", multi_arch=True)
    assert untouched(root)


def test_a_tag_from_a_label_cannot_leave_the_repository(upload: Any, root: Path) -> None:
    """Defect 2, as modify_append_tag and the tag of a label become part of the tag."""
    with pytest.raises(exception.ImageUploaderException, match="not a tag"):
        upload(modify_append_tag="/../../../evil")
    assert not (root / "v2" / "ns").exists()


def test_the_source_redirects_without_our_credentials(
    upload: Any, registry: TamperedRegistry, root: Path
) -> None:
    elsewhere = TamperedRegistry([IMAGE])
    with web_server.serving(elsewhere) as other:

        def change(answer: Answer, headers: Message) -> Answer:
            location = f"http://{other}/v2/ns/img/blobs/{LAYER}"
            return Answer(307, {"Location": location, "Content-Length": "0"})

        registry.tamper[f"blobs/{LAYER}"] = change
        upload()
    assert trees.catalog(root) == ["ns/img"]
    assert [headers["Authorization"] for _, headers in elsewhere.requests] == [None]


def test_a_redirect_to_a_file_of_ours(upload: Any, registry: TamperedRegistry, root: Path) -> None:
    registry.tamper[f"blobs/{LAYER}"] = lambda answer, headers: Answer(
        302, {"Location": "file:///etc/passwd", "Content-Length": "0"}
    )
    with pytest.raises(exception.ImageUploaderException, match="file:///etc/passwd"):
        upload()
    assert registry.asked(f"blobs/{LAYER}") == 1
    assert trees.catalog(root) == []


def test_bytes_are_asked_for_as_they_are_stored(
    upload: Any, registry: TamperedRegistry, root: Path
) -> None:
    """A server that says gzip of what is gzip anyway does not get it unpacked."""

    def change(answer: Answer, headers: Message) -> Answer:
        assert headers["Accept-Encoding"] == "identity"
        return dataclasses.replace(answer, headers={**answer.headers, "Content-Encoding": "gzip"})

    registry.tamper[f"blobs/{LAYER}"] = change
    upload()
    assert not trees.problems(root)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_passes_is_tried_again(
    upload: Any, registry: TamperedRegistry, root: Path, status: int
) -> None:
    answers = itertools.chain([Answer(status, {"Content-Length": "0", "Retry-After": "1"})] * 4)

    def change(answer: Answer, headers: Message) -> Answer:
        return next(answers, answer)

    registry.tamper[f"blobs/{LAYER}"] = change
    upload()
    assert trees.catalog(root) == ["ns/img"]


@pytest.mark.parametrize("status", [400, 403, 404, 410, 451])
def test_what_stays_is_not(
    upload: Any, registry: TamperedRegistry, root: Path, status: int
) -> None:
    registry.tamper[f"blobs/{LAYER}"] = lambda answer, headers: Answer(
        status, {"Content-Length": "0"}
    )
    with pytest.raises(exception.ImageUploaderException, match=f"{LAYER}: {status}"):
        upload()
    assert registry.asked(f"blobs/{LAYER}") == 1


def test_a_token_that_expires_in_between(
    upload: Any, registry: TamperedRegistry, source: str, root: Path
) -> None:
    """LP#1867981: a 401 in the middle was never retried."""
    tokens = itertools.count()

    def guard(answer: Answer, headers: Message) -> Answer:
        """Every token is good for two requests."""
        realm = f'Bearer realm="http://{source}/token",service="x"'
        refusal = Answer(401, {"WWW-Authenticate": realm, "Content-Length": "0"})
        shown = headers["Authorization"]
        used.append(shown)
        return answer if shown and used.count(shown) <= 2 else refusal

    def token(answer: Answer, headers: Message) -> Answer:
        content = json.dumps({"token": f"t{next(tokens)}", "expires_in": 3600})
        return Answer.of(content.encode(), "application/json")

    used: list[str | None] = []
    registry.tamper = {"/token": token, "/v2/": guard}
    upload()
    assert trees.catalog(root) == ["ns/img"]
    assert next(tokens) > 1


def test_credentials_that_are_missing(
    upload: Any, registry: TamperedRegistry, source: str, root: Path
) -> None:
    def refuse(answer: Answer, headers: Message) -> Answer:
        realm = f'Bearer realm="http://{source}/token",service="x"'
        return Answer(401, {"WWW-Authenticate": realm, "Content-Length": "0"})

    registry.tamper = {"/token": refuse, "/v2/": refuse}
    reason = r"ns/img:1\.0: cannot log in at .*/token: 401 .*credentials are missing"
    with pytest.raises(exception.ImageUploaderException, match=reason):
        upload()
    assert untouched(root)


def test_the_accept_header_names_all_types(upload: Any, registry: TamperedRegistry) -> None:
    upload()
    asked = [headers["Accept"] for path, headers in registry.requests if "manifests" in path]
    assert set(asked[0].split(", ")) == media_types.MANIFEST_TYPES


def test_the_umask_of_the_caller_does_not_matter(upload: Any, root: Path) -> None:
    """Defect 24."""
    before = os.umask(0o077)
    try:
        upload()
    finally:
        os.umask(before)
    for path in (root / "v2").rglob("*"):
        assert path.stat().st_mode & 0o444 == 0o444, path
