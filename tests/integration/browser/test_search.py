# SPDX-License-Identifier: Apache-2.0
"""The search in all repositories: tags, and who has a digest."""

from __future__ import annotations

import pytest

from image_uploader_plugins.testing import images
from tests.integration.browser.content import stated
from tests.integration.browser.registry import Pretender
from tests.support.browser import Browser

pytestmark = pytest.mark.slow

LINKS = "#names a"
IMAGE = images.image("ns/app", "1.0", [images.layer({"file": b"one"})])


def fill(registry: Pretender) -> None:
    """Fifty repositories, with three tags each; one of them has another name for one more."""
    for number in range(50):
        name = f"ns/r{number:02}"
        registry.tags[name] = ["1.9", "1.10", "sha256-" + "0" * 64 + ".sig"]
    registry.tags["ns/r07"].append("Special-1")
    registry.add(IMAGE)


def type_(browser: Browser, words: str) -> None:
    browser.click("#search")
    browser.press("a", control=True)
    browser.press(words)


def test_tags_of_all_repositories(browser: Browser, pretended: str, registry: Pretender) -> None:
    """Asked for once, for each repository, and only when somebody wants it."""
    fill(registry)
    browser.open(pretended)
    type_(browser, "special")
    assert browser.text("#count") == "0 of 51 repositories"
    assert registry.asked("/tags/list") == 0
    browser.click("#wider button", "Search the tags of all repositories")
    browser.until_says("1 tag", "#wider")
    assert browser.texts(LINKS) == ["ns/r07:Special-1"]
    assert registry.asked("/tags/list") == 51
    type_(browser, "r0 1.1")
    assert browser.texts(LINKS) == [f"ns/r{number:02}:1.10" for number in range(10)]
    type_(browser, "ns/r03:1.9")
    assert browser.texts(LINKS) == ["ns/r03", "ns/r03:1.9"]
    type_(browser, "sha256-00")
    assert browser.texts(LINKS) == []
    assert registry.asked("/tags/list") == 51
    type_(browser, "special")
    browser.press("\ue007")
    browser.until_says("ns/r07:Special-1", "h1")
    assert 1 < browser.run("return window.spy.most") <= 6


def test_a_repository_that_cannot_be_read(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    fill(registry)
    registry.break_("/v2/ns/r03/tags/list")
    browser.open(pretended)
    type_(browser, "1.10")
    browser.click("#wider button")
    browser.until_says("49 tags; 1 repository could not be read", "#wider")
    # Nor is it known, then, which of its tags are signatures.
    image = images.image("ns/r03", "1.9", [images.layer({"file": b"one"})])
    registry.add(image)
    browser.go("/ns/r03:1.9")
    browser.until_says("HTTP 500", "section[aria-label='Signatures and attestations']")


def test_who_has_a_digest(browser: Browser, pretended: str, registry: Pretender) -> None:
    """By HEAD, once for each repository."""
    fill(registry)
    for number in (5, 7):
        registry.manifests[f"ns/r{number:02}", str(IMAGE.digest)] = IMAGE.manifest
    browser.open(pretended)
    type_(browser, str(IMAGE.digest))
    browser.click("#wider button", "Look for this digest in all repositories")
    browser.until_says("3 repositories have it", "#wider")
    short = str(IMAGE.digest)[:19]
    assert browser.texts(LINKS) == [f"{name}@{short}" for name in ("ns/app", "ns/r05", "ns/r07")]
    asked = [method for method, url in browser.requests() if "/manifests/" in url]
    assert asked == ["HEAD"] * 51
    browser.click(LINKS, "ns/r05")
    browser.until_says("Docker image", ".facts")
    browser.messages()


def test_the_beginning_of_a_digest(browser: Browser, pretended: str, registry: Pretender) -> None:
    """Among the images that were read."""
    for image in stated("ns/img", "x"):
        registry.add(image)
    index = stated("ns/img", "x")[0]
    browser.open(f"{pretended}#/ns/img:1.0")
    type_(browser, str(index.digest)[:20])
    assert browser.texts(LINKS) == ["ns/img:1.0"]
