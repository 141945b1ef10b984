# SPDX-License-Identifier: Apache-2.0
"""What is said about an image, where it is not complete, and Helm charts."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.serving import listener
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from image_uploader_plugins.testing.web_server import NOT_FOUND
from tests.integration.browser.content import PROVENANCE, chart, digest_tag, signed, stated
from tests.integration.browser.registry import Pretender
from tests.support import trees
from tests.support.browser import PLAIN_HOST, Browser
from tests.support.content import everything

pytestmark = pytest.mark.slow

PANEL = "section[aria-label='Signatures and attestations']"


def by_name(name: str) -> Image:
    return next(image for image in everything() if image.repository.value == name)


def said(browser: Browser) -> list[str]:
    """What each line of the panel says, without the digests and sizes."""
    browser.until("return document.querySelector(arguments[0] + ' li')", PANEL)
    found: list[str] = browser.run(
        "return [...document.querySelectorAll(arguments[0] + ' li > .line')].map((line) =>"
        " [...line.children].filter((e) => e.matches('b, a') || e.textContent.startsWith('for '))"
        ".map((e) => e.textContent).join(' '))",
        PANEL,
    )
    return found


def test_of_an_index(browser: Browser, site: str) -> None:
    """By digest tags, by a list under a tag, and in the index itself; each with its platform."""
    browser.open(f"{site}#/signed/index:1.0")
    assert said(browser) == [
        "Signature application/vnd.notary",
        "Signature .sig tag",
        "Attestation .att tag for linux/arm64",
        f"Attestation {PROVENANCE} for linux/amd64",
        f"Attestation {PROVENANCE} for linux/arm64",
        "Bill of materials .sbom tag",
    ]
    # They are no platforms.
    assert browser.texts("main td a") == ["linux/amd64", "linux/arm64"]
    assert "None here" not in browser.text(PANEL)


def test_of_one_platform(browser: Browser, site: str) -> None:
    """What its index and the tags say about it alone."""
    browser.open(f"{site}#/signed/index:1.0")
    browser.click("main td a", "linux/arm64")
    browser.until_says("linux/arm64", ".facts")
    assert said(browser) == [
        "Attestation .att tag",
        f"Attestation {PROVENANCE} for linux/arm64",
    ]
    browser.click(f"{PANEL} a", PROVENANCE)
    browser.until_says("unknown/unknown", ".facts")


def test_of_an_image_with_referrers(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/signed/app:1.0")
    assert said(browser) == [
        "Signature application/vnd.example.signature+json",
        "Bill of materials application/spdx+json",
    ]
    assert "by somebody" in browser.texts(f"{PANEL} dd")


def test_one_that_is_in_two_places_is_told_once(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    """The list of referrers, and the tag that older clients keep it in."""
    subject, signature, _ = signed()
    listing = [signature.descriptor(artifactType="application/vnd.example.signature+json")]
    for image in signed():
        registry.add(image)
    registry.say("/referrers/", {"manifests": listing})
    tag = digest_tag(subject)
    registry.tags["signed/app"].append(tag)
    registry.say(
        f"/manifests/{tag}", {"manifests": listing}, "application/vnd.oci.image.index.v1+json"
    )
    browser.open(f"{pretended}#/signed/app:1.0")
    assert said(browser) == ["Signature application/vnd.example.signature+json"]


def test_nothing_is_said(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/base:1.0")
    browser.until_says("None here: no signature, attestation or bill of materials", PANEL)


def test_one_place_that_breaks_hides_no_other(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    for image in stated("ns/img", PROVENANCE):
        registry.add(image)
    registry.break_("/tags/list")
    registry.break_("/referrers/")
    browser.open(f"{pretended}#/ns/img:1.0")
    assert said(browser) == [
        f"Attestation {PROVENANCE} for linux/amd64",
        f"Attestation {PROVENANCE} for linux/arm64",
    ]
    assert browser.text(PANEL).count("The web server answers with an error (HTTP 500).") == 2


def test_what_a_signature_is_about(browser: Browser, site: str) -> None:
    """The tag of cosign's names it, a referrer has it as its subject."""
    index = stated("signed/index", PROVENANCE)[0]
    browser.open(f"{site}#/signed/index:{digest_tag(index, '.sig')}")
    browser.click("main a", f"signed/index@{str(index.digest)[:19]}")
    browser.until_says("OCI index", ".facts")
    subject, signature, _ = signed()
    browser.open(f"{site}#/signed/app@{signature.digest}")
    browser.click("main a", f"signed/app@{str(subject.digest)[:19]}")
    browser.until_says("OCI image", ".facts")


TWO = images.image("ns/img", "1.0", [images.layer({"n": b"1"}), images.layer({"n": b"2"})])
LOST = TWO.manifest.layers[1].digest


def test_a_missing_layer(browser: Browser, root: Path) -> None:
    """It is looked for when the image is opened, and only by HEAD."""
    with LocalExportDriver(root) as driver:
        trees.put(driver, TWO)
    for path in root.glob(f"v2/ns/img/blobs/{LOST}*"):
        path.unlink()
    with listener.serving(root) as address:
        browser.open(f"http://{address}/#/ns/img")
        browser.until_says("Docker image", "main td")
        assert not [url for url in browser.asked() if str(LOST) in url]
        browser.go("/ns/img:1.0")
        browser.until_says("Of 3 blobs, 1 is missing or wrong here", ".warning")
        assert browser.texts(".layers .flaw") == ["", "missing"]
        asked = [method for method, url in browser.requests() if str(LOST) in url]
        assert asked == ["HEAD"]


def test_a_layer_of_another_size(browser: Browser, pretended: str, registry: Pretender) -> None:
    registry.add(TWO)
    registry.say(f"/blobs/{LOST}", b"x", "application/octet-stream")
    browser.open(f"{pretended}#/ns/img:1.0")
    browser.until_says("the layers that are marked below", ".warning")
    size = TWO.manifest.layers[1].size
    assert browser.texts(".layers .flaw") == ["", f"has 1 B instead of {size} B"]
    registry.tamper.clear()
    browser.go("/ns/img")
    browser.go("/ns/img:1.0")
    browser.until("return document.querySelectorAll('.layers .flaw').length === 2")
    browser.until("return !document.querySelector('.warning')")
    assert browser.texts(".layers .flaw") == ["", ""]


def test_a_missing_configuration(browser: Browser, pretended: str, registry: Pretender) -> None:
    registry.add(TWO)
    assert TWO.manifest.config
    registry.break_(f"/blobs/{TWO.manifest.config.digest}", NOT_FOUND)
    browser.open(f"{pretended}#/ns/img:1.0")
    browser.until_says("1 is missing or wrong here: its configuration.", ".warning")
    assert "The configuration cannot be read" in browser.text("main [role=alert]")


@pytest.mark.parametrize("name", ["base:1.0", "odd/elsewhere:1.0", "odd/empty:1.0", "odd/zstd:1.0"])
def test_no_warning_where_all_is_there(browser: Browser, site: str, name: str) -> None:
    """Nor for a layer that is kept elsewhere on purpose, which is not asked for."""
    browser.open(f"{site}#/{name}")
    heads = "return performance.getEntriesByType('resource').length && window.spy.asking === 0"
    browser.until(heads)
    assert not browser.texts(".warning, .error")
    foreign = by_name("odd/elsewhere").manifest.layers[1].digest
    assert not [url for url in browser.asked() if str(foreign) in url]


def test_an_index_without_some_of_its_images(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/odd/sparse:1.0")
    assert browser.text(".warning h2") == "Not every platform is here"
    assert "1 of 2 manifests are not in this repository" in browser.text(".warning")
    assert browser.text(".warning").endswith("linux/riscv64.")
    browser.go("/odd/sparse")
    browser.until_says("linux/amd64", "main td.number")


def test_a_chart(browser: Browser, site: str) -> None:
    """Its version has the plus that no tag can have."""
    browser.open(f"{site}#/charts/app:1.2.3_b4")
    assert "Helm chart" in browser.text(".facts")
    panel = "section[aria-label='Helm chart']"
    names = dict(zip(browser.texts(f"{panel} dt"), browser.texts(f"{panel} dd"), strict=True))
    assert names == {"Chart": "app", "Version": "1.2.3+b4", "App version": "2026.1"}
    host = site.removeprefix("http://").rstrip("/")
    commands = [shlex.split(command) for command in browser.texts(".commands code")]
    assert commands[:3] == [
        [f"{host}/charts/app:1.2.3_b4"],
        ["helm", "pull", "--plain-http", f"oci://{host}/charts/app", "--version", "1.2.3+b4"],
        ["oras", "pull", "--plain-http", f"{host}/charts/app:1.2.3_b4"],
    ]
    browser.click(".choice button", "By digest")
    assert browser.texts(".commands b") == ["reference", "oras", "skopeo"]
    browser.go("/charts/app")
    browser.until_says("Helm chart \u00b7 sha256:", "main td")
    browser.until_says("2026-02-03", "main td.when")


@pytest.mark.parametrize("config", [b"[]", b"{}", b'{"name": {}, "dependencies": [1, null, {}]}'])
def test_a_chart_that_says_nothing(
    browser: Browser, pretended: str, registry: Pretender, config: bytes
) -> None:
    image = chart("ns/img", "1.0")
    registry.add(image)
    assert image.manifest.config
    plain = pretended.replace("127.0.0.1", PLAIN_HOST)
    registry.say(f"/blobs/{image.manifest.config.digest}", config)
    browser.open(f"{plain}#/ns/img:1.0")
    assert "Helm chart" in browser.text(".facts")
    assert "could not show" not in browser.text("main")
