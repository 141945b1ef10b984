# SPDX-License-Identifier: Apache-2.0
"""Whatever an image says is shown as it is written, and does nothing.

The fixture ``browser`` sees to it after each test that no script but the
page's ran, the policy had nothing to stop and nobody else was asked.
"""

from __future__ import annotations

import json
import shlex
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from image_uploader_plugins import media_types
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.serving import listener
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.web_server import Answer
from tests.integration.browser import content
from tests.integration.browser.content import LONG, SCRIPTS, SHELL, UNSEEN
from tests.integration.browser.registry import Pretender
from tests.support.browser import PLAIN_HOST, Browser

pytestmark = pytest.mark.slow

# What the page itself is made of.
ELEMENTS = {
    *("HTML", "HEAD", "META", "TITLE", "LINK", "STYLE", "SCRIPT", "BODY", "HEADER", "NAV", "MAIN"),
    *("SECTION", "H1", "H2", "P", "A", "B", "BDI", "BUTTON", "CODE", "DD", "DETAILS", "DIV", "DL"),
    *("DT", "I", "INPUT", "KBD", "LI", "NOSCRIPT", "OL", "OPTION", "PRE", "PROGRESS", "SELECT"),
    *("SPAN", "SUMMARY", "TABLE", "TBODY", "TD", "TH", "THEAD", "TR", "UL", "svg", "path"),
}
SIGNS = ["U+202E", "U+2066", "U+200B", "U+0000", "U+0007", "U+001B", "U+2028"]
PLACES = [
    *(
        "evil/image:1.0",
        "evil/index:1.0",
        "evil/artifact:1.0",
        "evil/schema1:1.0",
        "signed/app:1.0",
        "evil/chart:1.0",
        "evil/signed:1.0",
        "evil/signed",
    ),
    *("evil/image", "evil/artifact", "evil/index", content.LONG_WORD, content.LONG_PATH),
    *(f"{content.LONG_WORD}:1.0", "evil/many", f"evil/many:{content.LONG_TAG}"),
    *content.ODD_NAMES,
]


def check_elements(browser: Browser) -> None:
    """No element, attribute or link is there that the page does not make."""
    found = set(browser.run("return [...document.querySelectorAll('*')].map((e) => e.tagName)"))
    assert found <= ELEMENTS
    assert browser.run("return document.scripts.length") == 1
    links = browser.run("return [...document.links].map((e) => e.getAttribute('href'))")
    assert all(link.startswith("#/") for link in links)
    assert not browser.run(
        "return [...document.querySelectorAll('*')].flatMap((e) => e.getAttributeNames())"
        ".filter((name) => /^on|^src|^action|^formaction|^ping|^target/.test(name))"
    )


def test_places(browser: Browser, site: str) -> None:
    browser.open(site)
    for place in PLACES:
        browser.go(f"/{place}")
        browser.until(
            "return !document.querySelector('main td .soft')?.textContent.startsWith('…')"
        )
        assert browser.text("h1").startswith(place)
        assert not browser.texts(".error"), place
        check_elements(browser)


def test_labels_and_annotations_are_text(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/evil/image:1.0")
    for title in ("Labels", "Annotations"):
        section = f"section[aria-label={title}]"
        names, values = browser.texts(f"{section} dt"), browser.texts(f"{section} dd")
        for number, text in enumerate(SCRIPTS):
            assert values[names.index(f"script-{number}")] == text
            assert values[names.index(text)] == "as a name"
        assert values[names.index("__proto__")] == "as a name"
        signed = values[names.index("unseen")]
        assert [sign for sign in SIGNS if sign in signed] == SIGNS
        assert not any(character in signed for character in UNSEEN if ord(character) in (0, 0x202E))


def test_commands_and_history_are_text(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/evil/image:1.0")
    configuration = dict(
        zip(
            browser.texts("section[aria-label=Configuration] dt"),
            browser.texts("section[aria-label=Configuration] dd"),
            strict=True,
        )
    )
    # As a shell would have to be given it.
    assert shlex.split(configuration["Entrypoint"]) == ["/bin/sh", "-c", SHELL]
    assert configuration["User"] == configuration["Author"] == SCRIPTS[0]
    steps = browser.texts(".layers code")
    assert steps[: len(SCRIPTS)] == list(SCRIPTS)
    assert browser.texts(".layers .soft")[-1] == SCRIPTS[0]  # the title of the layer


def test_statements_are_text(browser: Browser, site: str) -> None:
    """Types, predicates and platforms of what is said about an image, and annotations of it."""
    browser.open(f"{site}#/evil/signed:1.0")
    panel = "section[aria-label='Signatures and attestations']"
    browser.until("return document.querySelector(arguments[0] + ' li')", panel)
    script = SCRIPTS[0]
    assert browser.texts(f"{panel} a") == [
        f"application/vnd.notary{script}",
        ".sig tag",
        ".att tag",
        f"{script}U+202E",
        f"{script}U+202E",
        ".sbom tag",
    ]
    platforms = [f"for linux/{architecture}{script}" for architecture in ("amd64", "arm64")]
    assert set(platforms) <= set(browser.texts(f"{panel} .small"))
    check_elements(browser)


def test_a_chart_is_text(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/evil/chart:1.0")
    panel = "section[aria-label='Helm chart']"
    values = browser.texts(f"{panel} dd")
    assert values[:6] == list(SCRIPTS[:6])
    assert all(values[6].startswith(SCRIPTS[0]) and "U+202E" in value for value in values[6:])
    helm = next(text for text in browser.texts(".commands code") if text.startswith("helm"))
    assert shlex.split(helm)[-2:] == ["--version", "1.0"]
    check_elements(browser)


def test_a_long_text_is_shown_when_asked_for(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/evil/artifact:1.0")
    assert LONG not in browser.text("main")
    browser.click("section[aria-label=Annotations] button", "99,400 more characters")
    browser.until_says(LONG)
    assert browser.focused() == "The whole text"
    check_elements(browser)


def test_the_manifest_is_text(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/evil/image:1.0")
    browser.click("summary")
    browser.until("return document.querySelector('details pre')")
    assert json.dumps(SCRIPTS[0])[1:-1] in browser.text("details pre")
    check_elements(browser)


def test_a_platform_is_no_part_of_a_command(browser: Browser, site: str) -> None:
    """The last is an honest one; for the others there are commands by digest alone."""
    browser.open(f"{site}#/evil/index:1.0")
    assert browser.texts("main td a") == [
        f"linux/{SHELL}",
        "linux --all/amd64",
        f"linux/arm64/{SCRIPTS[0]}",
        "windows/amd64",
    ]
    assert SCRIPTS[0] in browser.texts("main td .small")[-1]


@pytest.mark.parametrize(
    "platform",
    [
        {"os": "linux", "architecture": SHELL},
        {"os": "linux --all", "architecture": "amd64"},
        {"os": "linux", "architecture": "arm64", "variant": "v8;alarm"},
        {"os": "--help", "architecture": "amd64"},
        {"os": "linux", "architecture": "amd64\n"},
        {"os": ["linux"], "architecture": {"amd64": 1}},
    ],
    ids=str,
)
def test_commands_for_a_platform(
    browser: Browser, pretended: str, registry: Pretender, platform: dict[str, Any]
) -> None:
    image = content.with_config(platform, name="ns/img")
    registry.add(image)
    browser.open(f"{pretended}#/ns/img:1.0@{image.digest}")
    name = f"{pretended.removeprefix('http://')}ns/img@{image.digest}"
    assert [shlex.split(command) for command in browser.texts(".commands code")] == [
        [name],
        ["podman", "pull", "--tls-verify=false", name],
        ["docker", "pull", name],
        ["nerdctl", "--insecure-registry", "pull", name],
        ["crictl", "pull", name],
        ["ctr", "images", "pull", "--plain-http", name],
        ["skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", "dir:img"],
    ]
    assert not browser.texts(".choice")


ODD_JSON: list[object] = [
    *(None, True, -1, 10**400, SCRIPTS[0], [], {}, [None, 1, {}, [{}]]),
    {"__proto__": [], "toString": 1, "length": -1},
]


HELM = {"mediaType": "application/vnd.cncf.helm.config.v1+json"}


def attested(value: object, descriptor: dict[str, Any]) -> dict[str, Any]:
    """An index with attestations, of whatever."""
    key = "vnd.docker.reference"
    annotations = {f"{key}.type": "attestation-manifest", f"{key}.digest": value}
    children = [{**descriptor, "digest": digest, "annotations": annotations} for digest in
                (value, "sha256:" + "0" * 64)]  # fmt: skip
    return {"mediaType": media_types.OCI_INDEX, "manifests": children}


def odd_manifests() -> list[dict[str, Any]]:
    """Every field with every type of value that JSON has."""
    whole = {
        "schemaVersion": 2,
        "config": {"mediaType": media_types.OCI_CONFIG, "digest": "sha256:" + "0" * 64, "size": 2},
        "layers": [{"mediaType": SCRIPTS[0], "digest": SCRIPTS[0], "size": SCRIPTS[0]}],
    }
    fields = ["config", "layers", "manifests", "fsLayers", "annotations", "artifactType", "subject"]
    parts = ["mediaType", "digest", "size", "urls", "platform", "annotations", "artifactType"]
    odd: list[dict[str, Any]] = []
    for value in ODD_JSON:
        descriptor = dict.fromkeys(parts, value)
        odd += [{**whole, field: value} for field in fields]
        odd += [{"config": descriptor, "layers": [value, descriptor], "mediaType": value}]
        odd += [{**whole, "subject": descriptor}, {**whole, "config": {**HELM, "digest": value}}]
        odd += [attested(value, descriptor)]
        odd += [{"fsLayers": [value, {"blobSum": value}], "history": [{"v1Compatibility": value}]}]
        odd += [{"mediaType": media_types.OCI_INDEX, "manifests": [value, descriptor]}]
    return odd


def test_manifests_of_any_shape(browser: Browser, pretended: str, registry: Pretender) -> None:
    """The page is there, or says what is wrong; never nothing."""
    odd = odd_manifests()
    answers = iter(odd)

    def answer(_: Answer, __: Message) -> Answer:
        fields = next(answers)
        media_type = fields.get("mediaType", media_types.OCI_MANIFEST)
        kind = media_type if media_type == media_types.OCI_INDEX else media_types.OCI_MANIFEST
        return Answer.of(json.dumps(fields).encode(), kind)

    registry.tamper["/manifests/odd"] = answer
    browser.open(pretended)
    failed = [each for start in range(0, len(odd), 20) for each in look_at(browser, odd, start)]
    assert [(odd[at], text) for at, text in failed] == []
    check_elements(browser)


def look_at(browser: Browser, odd: list[dict[str, Any]], start: int) -> list[tuple[int, str]]:
    """Open twenty of these images in the page itself; return those that show nothing.

    A look at each from outside would take a minute, and a script has half of one.
    """
    failed: list[tuple[int, str]] = browser.driver.execute_async_script(
        """
        const [start, end, done] = arguments;
        const failed = [];
        for (let at = start; at < end; at += 1) {
          location.hash = at % 2 ? "#/ns/img:odd" : "#/ns/img:odd1";
          await new Promise((resolve) => addEventListener("hashchange", resolve, { once: true }));
          while (document.querySelector("main > .busy")) await new Promise(setTimeout);
          const text = document.querySelector("main").textContent;
          const isThere = document.querySelector("main section");
          if (text.includes("could not show") || !isThere) failed.push([at, text]);
        }
        done(failed);
        """,
        start,
        min(start + 20, len(odd)),
    )
    return failed


def odd_configs() -> list[dict[str, Any]]:
    fields = ["history", "config", "os", "architecture", "created", "author", "variant"]
    parts = ["Labels", "Entrypoint", "Cmd", "Env", "ExposedPorts", "Volumes", "User", "WorkingDir"]
    steps = ["created_by", "comment", "empty_layer"]
    return [
        {
            **dict.fromkeys(fields, value),
            "config": dict.fromkeys(parts, value),
            "history": [value, dict.fromkeys(steps, value)],
        }
        for value in ODD_JSON
    ]


def test_answers_of_any_shape(browser: Browser, pretended: str, registry: Pretender) -> None:
    """Where the browser does not hash, whatever is said to be a configuration comes through."""
    registry.add(images.image("ns/img", "1.0", [images.layer({"file": b"one"})]))
    plain = pretended.replace("127.0.0.1", PLAIN_HOST)

    def check(*said: object) -> None:
        assert "could not show" not in browser.text("main"), said
        assert browser.texts(".layers li"), said
        check_elements(browser)

    chart = content.chart("ns/chart", "1.0")
    registry.add(chart)
    for value, config in zip(ODD_JSON, odd_configs(), strict=True):
        registry.say("_catalog", value)
        registry.say("/blobs/", config)
        registry.say("/referrers/", {"manifests": [value, {"digest": "sha256:" + "1" * 64}]})
        browser.open(f"{plain}#/ns/img:1.0")
        check(value, config)
        registry.say("/blobs/", value)
        registry.say("/referrers/", value)
        browser.open(f"{plain}#/ns/img")  # anew: it keeps what a digest names
        browser.go("/ns/img:1.0")
        check(value)
        keys = ("name", "version", "appVersion", "dependencies", "maintainers")
        registry.say("/blobs/", {key: [value] for key in keys})
        browser.go("/ns/chart:1.0")
        check(value)


def test_a_configuration_of_somebody_else(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    registry.add(images.image("ns/img", "1.0", [images.layer({"file": b"one"})]))
    registry.say("/blobs/", {"author": "somebody else"})
    browser.open(f"{pretended}#/ns/img:1.0")
    assert "is not what its digest" in browser.text("main [role=alert]")
    assert "somebody else" not in browser.text("main")


def test_what_no_repository_can_be_called_is_not_listed(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    odd: list[Any] = ["Upper/case", "../up", "a//b", "a/", "a" * 256, "a\n", 1, None, {}]
    names = [*SCRIPTS, UNSEEN, *odd]
    registry.say("_catalog", {"repositories": ["good/one", *names]})
    browser.open(pretended)
    assert browser.texts("#names bdi") == ["good/one"]
    count = f"1 repository; {len(names)} entries cannot be a repository's name"
    assert browser.text("#count") == count
    check_elements(browser)


def test_what_no_tag_can_be_called_is_not_listed(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    registry.say("/tags/list", {"tags": [*SCRIPTS, UNSEEN, "a/b", "-a", "a" * 129, "good", 1]})
    browser.open(f"{pretended}#/ns/img")
    assert browser.texts("main td a") == ["good"]
    check_elements(browser)


def test_a_digest_that_is_none(browser: Browser, pretended: str, registry: Pretender) -> None:
    image = images.image("ns/img", "1.0", [images.layer({"file": b"one"})])
    registry.say(
        "/manifests/1.0",
        image.manifest.content,
        image.manifest.media_type,
        Docker_Content_Digest="sha256:../../../x",
    )
    browser.open(f"{pretended}#/ns/img:1.0")
    browser.until_says(str(image.digest))
    check_elements(browser)


@pytest.mark.parametrize("title", [SCRIPTS[0], SCRIPTS[4], f"Site {UNSEEN[:9]}"])
def test_the_title_of_the_registry_is_text(browser: Browser, root: Path, title: str) -> None:
    """It comes from an operator, and is text all the same."""
    LocalExportDriver(root, title=title).close()
    with listener.serving(root) as address:
        browser.open(f"http://{address}/")
        said = title.replace("\u202e", "U+202E")
        assert browser.text("#host") == said
        assert browser.text("main h1") == said
        assert browser.run("return document.title") == title
        check_elements(browser)


ATTEMPTS = {
    "fetch('//elsewhere.example/').catch(() => {})": "connect-src",
    "new Image().src = '/x.png'": "img-src",
    "document.body.setAttribute('onclick', 'alarm()')": "require-trusted-types-for",
    "document.body.innerHTML = '<p>'": "require-trusted-types-for",
    "document.body.setAttribute('style', 'color: red')": "style-src-attr",
    "document.body.append(document.createElement('iframe'));"
    "document.querySelector('iframe').src = '/'": "frame-src",
    "document.body.append(Object.assign(document.createElement('form'), {action: '/'}));"
    "document.querySelector('form').submit()": "form-action",
}


def test_the_policy_would_stop_it(browser: Browser, site: str) -> None:
    browser.open(site)
    for attempt, directive in ATTEMPTS.items():
        caught = "catch (error) { if (!(error instanceof TypeError)) throw error; }"
        browser.run(f"try {{ {attempt} }} {caught}")
        browser.until("return window.spy.violations.pop() === arguments[0]", directive)
    browser.messages()
    browser.asked()
