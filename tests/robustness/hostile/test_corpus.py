# SPDX-License-Identifier: Apache-2.0
"""The odd manifests, through everything that reads manifests."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import requests

from image_uploader_plugins import errors, media_types
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.driver import UploaderDriver
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sources.registry_source import _checked
from image_uploader_plugins.testing import web_server
from image_uploader_plugins.testing.web_server import NOT_FOUND, Answer
from tests.robustness.hostile import corpus
from tests.robustness.hostile.corpus import CORPUS, Odd
from tests.support import trees
from tests.support.sources import source

NAME = RepositoryName(corpus.NAME)


def check_message(error: BaseException) -> None:
    """Short, in one line, and nothing that a terminal obeys."""
    text = str(error)
    assert text.isprintable()
    assert len(text) < 1200


def test_no_two_have_one_name() -> None:
    assert len({odd.name for odd in CORPUS}) == len(CORPUS)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> LocalExportDriver:
    driver = LocalExportDriver(tmp_path_factory.mktemp("corpus") / "image-serve")
    for digest, content in corpus.BLOBS.items():
        driver.upload_layer(NAME, [content], expected=Digest(digest))
    return driver


@pytest.mark.slow
@pytest.mark.parametrize("odd", CORPUS, ids=str)
def test_parsed_and_put(shared: LocalExportDriver, odd: Odd) -> None:
    root = Path(shared._storage.root)
    if odd.refused is None:
        parsed = Manifest.parse(odd.content, odd.media_type)
        assert (parsed.content, parsed.media_type) == (odd.content, odd.media_type)
        stored = shared.put_manifest(NAME, odd.content, odd.media_type, tag=Tag("odd"))
        assert stored.digest == Digest.of(odd.content)
        content = root / "v2" / corpus.NAME / ".tags/odd/index.json"
        assert content.read_bytes() == odd.content
        return
    before = trees.served(root)
    with pytest.raises((errors.ManifestInvalid, errors.BlobUnknown)) as caught:
        shared.put_manifest(NAME, odd.content, odd.media_type, tag=Tag("odd"))
    assert odd.refused in str(caught.value)
    check_message(caught.value)
    assert trees.served(root) == before
    if isinstance(caught.value, errors.ManifestInvalid):
        with pytest.raises(errors.ManifestInvalid):
            Manifest.parse(odd.content, odd.media_type)


@pytest.mark.slow
def test_the_tree_is_in_order_after_all_of_them(driver: LocalExportDriver, root: Path) -> None:
    for digest, content in corpus.BLOBS.items():
        driver.upload_layer(NAME, [content], expected=Digest(digest))
    taken = [odd for odd in CORPUS if odd.refused is None]
    for number, odd in enumerate(taken):
        driver.put_manifest(NAME, odd.content, odd.media_type, tag=Tag(f"odd-{number}"))
    assert trees.problems(root) == []
    assert len(trees.tags(root, corpus.NAME)) == len(taken)


class OneManifest:
    """A registry that answers every manifest with the same bytes, and has the corpus's blobs."""

    def __init__(self, odd: Odd) -> None:
        self.odd = odd
        self.asked: list[str] = []

    def __call__(self, path: str, headers: Any) -> Answer:
        reference = path.rpartition("/")[2]
        self.asked.append(path)
        if "/manifests/" in path:
            # A child is asked for by its digest.
            content = corpus.CHILD.manifest.content
            if reference == str(corpus.CHILD.digest):
                return Answer.of(content, media_types.OCI_MANIFEST)
            return Answer.of(self.odd.content, self.odd.media_type)
        content = corpus.BLOBS.get(reference, b"")
        return Answer.of(content, "application/octet-stream") if content else NOT_FOUND


def copy(driver: UploaderDriver, registry: Any, reference: Tag | Digest) -> Manifest:
    with web_server.serving(registry) as address:
        copier = Copier(driver, NAME, source(address, corpus.NAME))
        return copier.copy(reference, Tag("odd"), all_platforms=True)


# What only the media type that the caller names decides, a registry does not say.
_ASKED = [odd for odd in CORPUS if "was given" not in (odd.refused or "")]
# The children of this one are absent, which only a copy minds.
_ASKED = [odd for odd in _ASKED if odd.name != "20k children"]


@pytest.mark.slow
@pytest.mark.parametrize("odd", _ASKED, ids=str)
def test_copied(driver: LocalExportDriver, root: Path, odd: Odd, no_waiting: None) -> None:
    before = trees.served(root)
    registry = OneManifest(odd)
    if odd.refused is None:
        assert copy(driver, registry, Tag("odd")).content == odd.content
        assert trees.problems(root) == []
        return
    with pytest.raises((errors.UploaderError, requests.RequestException)) as caught:
        copy(driver, registry, Tag("odd"))
    check_message(caught.value)
    served = {path for path in trees.served(root) if "/blobs/" not in path}
    assert served == before.keys()
    if isinstance(caught.value, errors.ManifestInvalid):
        assert [path for path in registry.asked if "/blobs/" in path] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "protected",
    [
        {"formatLength": 0, "formatTail": "hole"},
        {"formatLength": 1, "formatTail": "hole"},
    ],
)
def test_a_signature_for_another_manifest(
    driver: LocalExportDriver, root: Path, protected: dict[str, Any], no_waiting: None
) -> None:
    """The digest that was asked for is the payload's, which the signature itself brings along."""
    wanted = corpus.text(corpus.schema1())
    evil = corpus.schema1(fsLayers=[{"blobSum": next(iter(corpus.BLOBS))}] * 2)
    claim = protected | {"formatTail": corpus.base64url(wanted[protected["formatLength"] :])}
    odd = Odd("forged", corpus.signed(evil, claim), media_types.DOCKER_SCHEMA1_SIGNED)
    with pytest.raises(errors.ManifestInvalid, match="signatures"):
        copy(driver, OneManifest(odd), Digest.of(wanted))
    assert trees.catalog(root) == []


@pytest.mark.slow
def test_a_signed_manifest_by_its_digest(driver: LocalExportDriver, root: Path) -> None:
    payload = json.dumps(corpus.schema1(), indent=3).encode()
    odd = Odd("signed", corpus.signed(corpus.schema1()), media_types.DOCKER_SCHEMA1_SIGNED)
    assert copy(driver, OneManifest(odd), Digest.of(payload)).content == odd.content
    with pytest.raises(errors.DigestMismatch):
        other = dataclasses.replace(odd, content=corpus.signed(corpus.schema1(tag="2")))
        _checked(other.content, Digest.of(payload), None)


@pytest.mark.parametrize(
    "protected",
    [
        {},
        {"formatLength": 1.5, "formatTail": ""},
        {"formatLength": float("inf"), "formatTail": ""},
        {"formatLength": "7", "formatTail": ""},
        {"formatLength": 7, "formatTail": 7},
        {"formatLength": 7, "formatTail": "\u00e9"},
        {"formatLength": 10**400, "formatTail": ""},
    ],
    ids=repr,
)
def test_signatures_that_are_none(protected: dict[str, Any]) -> None:
    odd = Odd("x", corpus.signed(corpus.schema1(), protected or {"x": 1}), "")
    with pytest.raises(errors.ManifestInvalid, match="manifest"):
        _checked(odd.content, Digest.of(b"x"), None)


def test_signatures_nested_too_deeply() -> None:
    deep = corpus.base64url(b"[" * 100_000)
    content = corpus.text(corpus.schema1(signatures=[{"protected": deep}]))
    with pytest.raises(errors.ManifestInvalid, match="deeply"):
        _checked(content, Digest.of(b"x"), None)
