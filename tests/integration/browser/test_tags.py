# SPDX-License-Identifier: Apache-2.0
"""The tags of one repository: their order, their dates, the search, and what it all costs."""

from __future__ import annotations

import dataclasses
import json

import pytest

from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.integration.browser.content import digest_tag, stated
from tests.integration.browser.registry import Pretender
from tests.support.browser import Browser

pytestmark = pytest.mark.slow

TAGS = "main td a"


def fill(registry: Pretender, tags: int, manifests: int = 14) -> list[Image]:
    """``tags`` of big/app, which stand for a few images."""
    made = [
        images.image("big/app", None, [images.layer({"n": str(number).encode()})])
        for number in range(manifests)
    ]
    for image in made:
        registry.add(image)
    for number in range(tags):
        point(registry, f"{number // 300}.{number // 30 % 10}.{number % 30}", made[number % 14])
    return made


def point(registry: Pretender, tag: str, image: Image) -> None:
    name = image.repository.value
    registry.add(dataclasses.replace(image, tag=None))
    registry.tags.setdefault(name, []).append(tag)
    registry.manifests[name, tag] = image.manifest


def rows(browser: Browser, count: int) -> None:
    """Wait until as many rows have what they show."""
    browser.until(
        "return [...document.querySelectorAll('main tbody tr')].slice(0, arguments[0])"
        ".every((row) => row.querySelector('td code'))",
        count,
    )


def test_three_thousand_tags(browser: Browser, pretended: str, registry: Pretender) -> None:
    """One request for the list, and some for the rows that are seen: not one for each tag."""
    fill(registry, 3000)
    registry.size = 10_000
    browser.open(f"{pretended}#/big/app")
    rows(browser, 8)
    assert browser.text(".facts") == "Tags3,000"
    assert registry.asked("/tags/list") == 1
    assert registry.asked("/manifests/") <= 40
    assert registry.asked("/blobs/") <= 14
    browser.click("main button", "Show all 3,000")
    browser.until("return document.querySelectorAll('main tbody tr').length === 3000")
    browser.click("main input")
    browser.press("5.7.12")
    assert browser.texts(TAGS) == ["5.7.12"]
    assert browser.text(".facts") == "Tags1 of 3,000"
    rows(browser, 1)
    assert registry.asked("/tags/list") == 1
    assert registry.asked("/manifests/") <= 50
    assert registry.asked("/blobs/") <= 14


def test_one_manifest_is_asked_for_once(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    """An index that many tags stand for: the image and the configuration behind it, once."""
    index = stated("big/app", "x")[0]
    registry.add(dataclasses.replace(index, tag=None))
    for number in range(12):
        point(registry, f"1.{number}", index)
    browser.open(f"{pretended}#/big/app")
    rows(browser, 12)
    browser.until("return document.querySelectorAll('main .when .small').length === 12")
    assert registry.asked("/manifests/1.") == 12
    assert registry.asked("/manifests/sha256:") == 1
    assert registry.asked("/blobs/") == 1
    assert browser.texts("main td.number")[0].endswith("linux/amd64")
    browser.click("main button", "Oldest first")
    rows(browser, 12)
    assert registry.asked("/manifests/") == 13


def test_the_order_is_that_of_versions(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    """1.10 after 1.9, a candidate before its release, the newest first unless chosen otherwise."""
    image = images.image("ns/img", None, [images.layer({"file": b"one"})])
    newest = [
        *("stable", "latest", "v2.0.0", "2.0.0-rc1", "1.10.1", "1.10", "1.10-rc10", "1.10-rc9"),
        *("v1.9.2", "1.9", "1.9rc1", "1.9b2", "0.1"),
    ]
    for tag in sorted(newest):
        point(registry, tag, image)
    browser.open(f"{pretended}#/ns/img")
    assert browser.texts(TAGS) == newest
    assert browser.text(".choice button[aria-pressed=true]") == "Newest first"
    browser.click(".choice button", "Oldest first")
    assert browser.texts(TAGS) == newest[::-1]


def dated(tag: str, created: object, **annotations: str) -> Image:
    image = images.image("ns/img", tag, [images.layer({"file": tag.encode()})])
    config = image.manifest.config
    assert config
    fields = json.loads(image.blobs[config.digest]) | {"created": created}
    return with_config(image, json.dumps(fields).encode(), annotations)


def with_config(image: Image, config: bytes, annotations: dict[str, str]) -> Image:
    fields = json.loads(image.manifest.content)
    blob = images.Blob(config, fields["config"]["mediaType"])
    fields |= {"config": blob.descriptor(), "annotations": annotations}
    manifest = type(image.manifest).parse(json.dumps(fields).encode())
    blobs = {**image.blobs, blob.digest: config}
    return dataclasses.replace(image, manifest=manifest, blobs=blobs)


def test_dates(browser: Browser, pretended: str, registry: Pretender) -> None:
    """What the image says, or its annotation; the epoch and nonsense are no dates."""
    key = "org.opencontainers.image.created"
    registry.add(dated("5", "2026-02-03T04:05:06.789Z"))
    registry.add(dated("4", "2026-02-03T04:05:06Z", **{key: "2025-01-02T00:00:00Z"}))
    registry.add(dated("3", "1970-01-01T00:00:00Z"))
    registry.add(dated("2", "0001-01-01T00:00:00Z"))
    registry.add(dated("1", ["<b>"]))
    browser.open(f"{pretended}#/ns/img")
    rows(browser, 5)
    browser.until("return document.querySelectorAll('main .when .small').length === 2")
    dates = [text[:10] for text in browser.texts("main td.when")]
    assert dates == ["2026-02-03", "2025-01-02", "", "", ""]
    # An annotation saves the request for the configuration.
    assert registry.asked("/blobs/") == 4


def test_a_search_for_a_digest(browser: Browser, pretended: str, registry: Pretender) -> None:
    """Among those that were read at once; among all when asked, by HEAD and once for each."""
    made = fill(registry, 280)
    registry.size = 10_000
    browser.open(f"{pretended}#/big/app")
    rows(browser, 8)
    browser.click("main input")
    browser.press(made[3].digest.encoded[:10])
    some = len(browser.texts(TAGS))
    assert 0 < some < 20
    before = registry.asked("/manifests/")
    browser.click("main button", "Read the digests of ")
    browser.until("return document.querySelectorAll('main tbody tr').length === 20")
    assert registry.asked("/manifests/") <= before + 280 + 20
    assert not any("Read the digests" in words for words in browser.texts("main button"))
    browser.click("main input")
    browser.press("a", control=True)
    browser.press(str(made[3].digest))
    assert len(browser.texts(TAGS)) == 20
    browser.click("main a", "Open sha256:")
    browser.until_says(f"big/app@{str(made[3].digest)[:19]}", "h1")


def test_digest_tags_are_folded(browser: Browser, pretended: str, registry: Pretender) -> None:
    stated_images = stated("ns/img", "x")
    for image in stated_images:
        registry.add(image)
    browser.open(f"{pretended}#/ns/img")
    assert browser.texts(TAGS) == ["1.0"]
    assert browser.text(".facts") == "Tags1"
    assert browser.text("#names a[aria-current=page]") == "ns/img1"
    assert "4 tags of signatures and attestations are shown with the images" in browser.text("main")
    index = stated_images[0]
    browser.click("main input")
    browser.press("sha256-")
    assert digest_tag(index, ".sig") in browser.texts(TAGS)
    browser.press(*["\ue003"] * 7)
    browser.click("main button", "Show them here")
    assert browser.texts(TAGS)[-1] == "1.0"
    assert len(browser.texts(TAGS)) == 5


def test_only_digest_tags(browser: Browser, pretended: str, registry: Pretender) -> None:
    """They are shown where nothing else is there to be shown."""
    for image in stated("ns/img", "x")[1:]:
        registry.add(image)
    browser.open(f"{pretended}#/ns/img")
    assert len(browser.texts(TAGS)) == 4


def test_a_tag_that_cannot_be_read(browser: Browser, pretended: str, registry: Pretender) -> None:
    fill(registry, 2)
    registry.break_("/manifests/0.0.1")
    browser.open(f"{pretended}#/big/app")
    browser.until_says("The web server answers with an error (HTTP 500).", "main td")
    browser.until_says("Docker image", "main tbody tr:nth-child(2)")
