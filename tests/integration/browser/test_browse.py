# SPDX-License-Identifier: Apache-2.0
"""From the list of repositories to a layer, and the commands that pull it."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.integration.browser.content import gallery, signed
from tests.integration.browser.registry import Pretender
from tests.support import programs
from tests.support.browser import PLAIN_HOST, Browser
from tests.support.content import everything

pytestmark = pytest.mark.slow

NAMES = sorted({image.repository.value for image in gallery()})


def by_name(name: str) -> Image:
    return next(image for image in everything() if image.repository.value == name)


def test_every_repository_is_listed(browser: Browser, site: str) -> None:
    browser.open(site)
    assert browser.texts("#names bdi") == NAMES
    assert browser.text("#count") == f"{len(NAMES)} repositories"


def test_search(browser: Browser, site: str) -> None:
    browser.open(site)
    browser.click("#search")
    browser.press("nova")
    assert browser.texts("#names bdi") == ["openstack/nova-api", "openstack/nova/compute"]
    assert browser.text("#count") == f"2 of {len(NAMES)} repositories"
    browser.press(" comp")
    assert browser.texts("#names bdi") == ["openstack/nova/compute"]
    browser.press("xyz")
    assert browser.texts("#names bdi") == []
    assert browser.text("#count") == f"0 of {len(NAMES)} repositories"


def test_search_takes_a_reference(browser: Browser, site: str) -> None:
    browser.open(site)
    browser.click("#search")
    browser.press(f"{site.removeprefix('http://')}base:1.0", "\ue007")
    browser.until_says("base:1.0", "h1")


def test_tags(browser: Browser, site: str) -> None:
    image = by_name("base")
    browser.open(f"{site}#/base")
    browser.until_says(f"Docker image · {str(image.digest)[:19]}")
    assert browser.texts("main td a") == ["1.0"]
    assert browser.text("#names a[aria-current=page]") == "base1"


def test_an_image(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/openstack/nova-api:wallaby")
    image = by_name("openstack/nova-api")
    facts = dict(zip(browser.texts(".facts dt"), browser.texts(".facts dd"), strict=True))
    size = sum(len(content) for content in image.blobs.values())
    assert facts.pop("Created").startswith("2026-01-01 00:00 UTC")
    assert facts == {
        "Kind": "Docker image",
        "Size": f"{size} B",
        "Layers": "2",
        "Platform": "linux/amd64",
    }
    assert str(image.digest) in browser.texts("main code")
    layers = [str(layer.digest)[:19] for layer in image.manifest.layers]
    assert browser.texts(".layers .about code") == layers
    assert browser.run("return document.title").startswith("openstack/nova-api:wallaby \u2013 ")


def test_platforms_of_an_index(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/multi/oci:1.0")
    assert browser.texts("main td a") == ["linux/amd64", "linux/arm64", "linux/s390x"]
    browser.click("main td a", "linux/arm64")
    browser.until_says("linux/arm64", ".facts")
    commands = [command.split() for command in browser.texts(".commands code")]
    name = f"{site.removeprefix('http://')}multi/oci:1.0"
    assert commands == [
        [name],
        ["podman", "pull", "--tls-verify=false", "--platform=linux/arm64", name],
        ["docker", "pull", "--platform=linux/arm64", name],
        ["nerdctl", "--insecure-registry", "pull", "--platform=linux/arm64", name],
        ["ctr", "images", "pull", "--plain-http", "--platform=linux/arm64", name],
        [
            *("skopeo", "--override-os=linux", "--override-arch=arm64", "copy"),
            *("--src-tls-verify=false", f"docker://{name}", "dir:oci"),
        ],
    ]
    browser.click("main .back")
    browser.until_says("Platforms")


def test_an_index_that_is_not_complete(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/odd/sparse:1.0")
    browser.until_says("Not held by this repository")
    assert "B or more" in browser.text(".facts")


def test_schema_1(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/old/schema1:1.0")
    assert "Docker image, schema 1" in browser.text(".facts")
    assert "does not record sizes" in browser.text("main")
    assert len(browser.texts(".layers li")) == 1


def test_an_artifact_has_commands_of_its_own(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/odd/artifact:1.0")
    assert "application/vnd.example.sbom+json" in browser.text(".facts")
    assert browser.texts(".commands b") == ["reference", "oras", "skopeo"]


def test_referrers(browser: Browser, site: str) -> None:
    subject, signature, _ = signed()
    browser.open(f"{site}#/signed/app:1.0")
    browser.until_says("by somebody")
    browser.click("main li a", "application/vnd.example.signature+json")
    browser.until_says("Artifact", ".facts")
    assert browser.run("return location.hash") == f"#/signed/app@{signature.digest}"
    assert str(subject.digest) not in browser.texts("main code")


def test_the_manifest_as_it_is(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/base:1.0")
    browser.click("summary")
    browser.until("return document.querySelector('details pre')")
    assert browser.text("details pre") == by_name("base").manifest.content.decode()


@pytest.mark.parametrize(
    ("fragment", "title", "selector"),
    [
        ("#/openstack/nova/compute", "openstack/nova/compute", "main td a"),
        ("#/multi/docker:1.0", "multi/docker:1.0", "main td a"),
        (f"#/base@{by_name('base').digest}", "base@" + str(by_name("base").digest)[:19], ".layers"),
        (
            f"#/multi/oci:1.0@{by_name('multi/oci').children[1].digest}",
            "multi/oci:1.0@" + str(by_name("multi/oci").children[1].digest)[:19],
            ".layers",
        ),
        ("", "127.0.0.1:", "#names a"),
        ("#/", "127.0.0.1:", "#names a"),
    ],
)
def test_deep_links(browser: Browser, site: str, fragment: str, title: str, selector: str) -> None:
    browser.open(site + fragment)
    assert browser.text("h1").startswith(title)
    assert browser.texts(selector)


NOWHERE = [
    *("#/Base", "#/../base", "#/base:", "#/base:a/b", "#/base@sha256:0", "#/base@", "#//base"),
    *("#/base:1.0?x", "#/%62ase", "#javascript:alarm()", "#/<img src=x onerror=alarm()>"),
    "#/" + "a" * 256,
]


def test_links_that_lead_nowhere(browser: Browser, site: str) -> None:
    browser.open(site + NOWHERE[0])
    for fragment in NOWHERE:
        browser.go(fragment)
        assert browser.text("h1") == "No such place"
    assert len(browser.asked()) <= 4  # the page, its icon and the list


def test_back_and_forth(browser: Browser, site: str) -> None:
    browser.open(site)
    browser.click("#names a", "edge/")
    browser.until_says("edge/oci", "h1")
    browser.click("main td a", "1.0")
    browser.until_says("edge/oci:1.0", "h1")
    browser.driver.back()
    browser.until("return document.querySelector('h1').textContent === 'edge/oci'")
    browser.driver.back()
    browser.until_says("Choose a repository")
    browser.driver.forward()
    browser.until("return document.querySelector('h1').textContent === 'edge/oci'")


def test_shared_layers(browser: Browser, site: str) -> None:
    """Nine images have the layer of base, whatever type they say it is of."""
    browser.open(f"{site}#/base:1.0")
    assert "shared with other images: none" in browser.text("main")
    browser.click("main button", "Compare with all repositories")
    browser.until("return document.querySelector('#status').textContent.startsWith('Compared')")
    browser.until_says("Shares with")
    variants = [f"linux/{architecture}" for architecture in ("amd64", "arm64", "s390x")]
    multi = [f"{name}:1.0 ({one})" for name in ("multi/docker", "multi/oci") for one in variants]
    others = ["edge/oci:1.0", "openstack/nova-api:wallaby", "openstack/nova/compute:wallaby"]
    assert sorted(browser.texts("main td a")) == sorted([*multi, *others])
    assert browser.text(".layers .about").endswith("shared with 9 images")
    browser.go("/")
    facts = dict(zip(browser.texts(".facts dt"), browser.texts(".facts dd"), strict=True))
    assert {"Images read", "Stored once", "Saved by sharing"} <= facts.keys()
    assert 1 < browser.run("return window.spy.most") <= 6


def test_comparing_can_be_stopped(browser: Browser, pretended: str, registry: Pretender) -> None:
    for number in range(200):
        registry.add(images.image(f"ns/{number}", "1.0", [images.layer({"file": b"one"})]))
    browser.open(pretended)
    browser.run("for (const b of document.querySelectorAll('main button'))"
                " if (b.textContent !== 'Stop') b.click();"
                "for (const b of document.querySelectorAll('main button'))"
                " if (b.textContent === 'Stop') b.click();")  # fmt: skip
    browser.until_says("Stopped comparing", "#status")
    assert registry.asked("/manifests/") < 200
    browser.messages()


def test_copying(browser: Browser, site: str) -> None:
    browser.allow_clipboard(site)
    browser.open(f"{site}#/base:1.0")
    command = browser.texts(".commands code")[1]
    browser.click(".commands button[aria-label='Copy the command for podman']")
    browser.until_says("Copied", ".commands li:nth-child(2) button")
    assert browser.text("#status") == "Copied the command for podman"
    assert (
        browser.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
        == command
    )


def test_copying_over_plain_http(browser: Browser, site: str) -> None:
    """No clipboard interface, and no hashing: not a secure context."""
    browser.open(site.replace("127.0.0.1", PLAIN_HOST) + "#/base:1.0")
    assert not browser.run("return window.isSecureContext")
    assert "As the web server says." in browser.text("main")
    assert f" {PLAIN_HOST}:" in browser.texts(".commands code")[1]
    browser.click("main button[aria-label='Copy the digest']")
    browser.until_says("Copied the digest", "#status")
    assert browser.focused() == "Copy the digest"
    browser.click("#search")
    browser.press("v", control=True)
    assert browser.run("return document.querySelector('#search').value") == str(
        by_name("base").digest
    )
    assert not browser.texts("textarea")


@pytest.mark.parametrize("name", ["base:1.0", "odd/artifact:1.0", "multi/oci:1.0"])
def test_the_commands_work(browser: Browser, site: str, tmp_path: Path, name: str) -> None:
    """Skopeo's, run as they are copied; clients as such are tested elsewhere."""
    programs.require("skopeo")
    browser.open(f"{site}#/{name}")
    for way in ("By tag", "By digest"):
        browser.click(".choice button", way)
        assert browser.text(".choice button[aria-pressed=true]") == way
        (text,) = [text for text in browser.texts(".commands code") if text.startswith("skopeo")]
        subprocess.run(shlex.split(text), cwd=tmp_path, check=True, capture_output=True)
        folder = tmp_path / name.split(":", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1]
        assert json.loads((folder / "manifest.json").read_bytes())
        shutil.rmtree(folder)
