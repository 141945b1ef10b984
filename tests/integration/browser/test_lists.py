# SPDX-License-Identifier: Apache-2.0
"""Lists that come in pages, large registries, and registries that break."""

from __future__ import annotations

import pytest

from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.web_server import Answer
from tests.integration.browser.registry import JSON, Pretender
from tests.support.browser import Browser

pytestmark = pytest.mark.slow

IMAGE = images.image("ns/img", "1.0", [images.layer({"file": b"one"})])


def fill(registry: Pretender, repositories: int = 0, tags: int = 0) -> None:
    """Names, and tags of ns/img, that all stand for one image."""
    registry.add(IMAGE)
    for number in range(repositories):
        registry.tags[f"ns/n{number:04}"] = ["1.0"]
    for number in range(tags):
        registry.tags["ns/img"].append(f"t{number:04}")
        registry.manifests["ns/img", f"t{number:04}"] = IMAGE.manifest


def test_a_large_registry(browser: Browser, pretended: str, registry: Pretender) -> None:
    """All of it can be found; not all of it is drawn or asked for at once."""
    fill(registry, repositories=1000)
    browser.open(pretended)
    assert browser.text("#count") == "1,001 repositories"
    assert registry.asked("/v2/_catalog") == 11
    assert registry.asked("/v2/") == 11
    assert len(browser.texts("#names a")) == 200
    browser.click("#search")
    browser.press("n0999")
    assert browser.texts("#names bdi") == ["ns/n0999"]
    browser.press("\ue007")
    browser.until_says("ns/n0999", "h1")


def test_the_rest_of_a_long_list(browser: Browser, pretended: str, registry: Pretender) -> None:
    fill(registry, repositories=300)
    browser.open(pretended)
    browser.click("#names button", "Show 101 more of 101")
    assert len(browser.texts("#names a")) == 301
    assert not browser.texts("#names button")
    assert browser.focused() == "ns/n0199"


def test_tags_that_come_in_parts(browser: Browser, pretended: str, registry: Pretender) -> None:
    """Another server than ours may send a part and a Link: it is followed to the end."""
    fill(registry, tags=250)
    browser.open(f"{pretended}#/ns/img")
    browser.until_says("Tags251", ".facts")
    assert registry.asked("/tags/list") == 3
    assert browser.text("#names a[aria-current=page]") == "ns/img251"
    browser.click("main input")
    browser.press("T0249")
    assert browser.texts("main td a") == ["t0249"]
    assert browser.text(".facts") == "Tags1 of 251"


def test_only_what_is_in_view_is_read(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    """Of 100 tags that are drawn the first and the last, and none in the middle."""
    registry.size = 1000
    fill(registry, tags=500)
    browser.open(f"{pretended}#/ns/img")
    rows = "document.querySelectorAll('main tbody tr')"
    assert browser.run(f"return {rows}.length") == 100
    browser.until(f"return {rows}[0].textContent.includes('Docker image')")
    browser.run(f"{rows}[99].scrollIntoView({{ block: 'end' }})")
    browser.until(f"return {rows}[99].textContent.includes('Docker image')")
    assert browser.run(f"return {rows}[50].querySelector('a').textContent") == "t0449"
    assert not registry.asked("/manifests/t0449")
    assert 1 < browser.run("return window.spy.most") <= 6


@pytest.mark.parametrize(
    "link",
    [
        '</v2/_catalog?last=b&n=1>; rel="next"',  # for ever
        "</v2/_catalog?last=../../x&n=1>; rel=next",
        "<//elsewhere.example/v2/_catalog?last=B>; rel=next",
        '<https://[>; rel="next"',
        '<javascript:alarm()>; rel="next"',
        '</v2/_catalog?last=b>; rel="prev"',
        "nonsense",
    ],
)
def test_links_that_lead_astray(
    browser: Browser, pretended: str, registry: Pretender, link: str
) -> None:
    """The list ends where a link is not to be believed."""
    registry.say("_catalog", {"repositories": ["a", "b"]}, Link=link)
    browser.open(pretended)
    assert set(browser.texts("#names bdi")) == {"a", "b"}
    assert registry.asked("_catalog") <= 2


def test_links_that_lead_in_circles(browser: Browser, pretended: str, registry: Pretender) -> None:
    fill(registry)
    for last, other in (("a", "b"), ("b", "a")):
        registry.say(f"_catalog?last={last}", {"repositories": [other]}, Link=next_(other))
        registry.say(f"/tags/list?last={last}", {"tags": [other]}, Link=next_(other))
    registry.say("_catalog", {"repositories": ["ns/img"]}, Link=next_("a"))
    registry.say("/tags/list", {"tags": ["1.0"]}, Link=next_("a"))
    browser.open(f"{pretended}#/ns/img")
    browser.until_says("3 repositories", "#count")
    browser.until_says("Tags3", ".facts")
    assert registry.asked("_catalog") == registry.asked("/tags/list") == 3
    browser.go("/")
    browser.click("main button", "Compare")
    browser.until_says("Compared 3 repositories", "#status")


def next_(last: str) -> str:
    return f'<?last={last}>; rel="next"'


def test_an_empty_registry(browser: Browser, pretended: str) -> None:
    browser.open(pretended)
    assert browser.text("#count") == "0 repositories"
    assert "No images yet" in browser.text("main")
    assert browser.texts("main code")[1] == "image-uploader upload images.yaml"


def test_looking_again(browser: Browser, pretended: str, registry: Pretender) -> None:
    browser.open(pretended)
    fill(registry)
    browser.click("main button", "Look again")
    browser.until_says("ns/img", "#names")
    browser.until_says("Choose a repository")


def test_a_repository_without_tags(browser: Browser, pretended: str, registry: Pretender) -> None:
    registry.tags["ns/img"] = []
    browser.open(f"{pretended}#/ns/img")
    assert "No tags" in browser.text("main")


BROKEN = [
    (Answer(503, {"Content-Length": "0"}), "The web server answers with an error (HTTP 503)."),
    (Answer(403, {"Content-Length": "0"}), "The web server does not let you see this (HTTP 403)."),
    (Answer.of(b"<html>", "text/html"), "is not JSON"),
    (Answer.of(b"", JSON), "is not JSON"),
    (Answer(200, {"Content-Length": "100"}, [b"{"]), "The registry does not answer."),
    (Answer(200, {}, [b" " * 2**20] * 17), "The answer has more than 16.8 MB"),
]


PARTS = [("_catalog", ""), ("/tags/list", "#/ns/img"), ("/manifests/1.0", "#/ns/img:1.0")]


@pytest.mark.parametrize(
    ("part", "fragment", "answer", "words"),
    [
        *((*PARTS[0], *broken) for broken in BROKEN),
        *((*part, *broken) for part in PARTS[1:] for broken in BROKEN[:3]),
    ],
)
def test_what_is_broken_is_said_and_can_be_tried_again(
    browser: Browser,
    pretended: str,
    registry: Pretender,
    part: str,
    fragment: str,
    answer: Answer,
    words: str,
) -> None:
    fill(registry)
    registry.break_(part, answer)
    browser.open(pretended + fragment)
    assert words in browser.text("main [role=alert]")
    registry.tamper.clear()
    browser.click("main button", "Try again")
    browser.until("return !document.querySelector('[role=alert], .busy')")
    browser.until_says("ns/img", "#side" if not fragment else "h1")


def test_a_list_that_breaks_in_the_middle(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    """What was read stays, and it is said that there may be more."""
    fill(registry, repositories=250)
    registry.break_("last=ns%2Fn0098")
    browser.open(pretended)
    assert len(browser.texts("#names a")) == 100
    assert browser.text("#count") == "100 repositories; there may be more"
    assert "The list is incomplete" in browser.text("main")
    registry.tamper.clear()
    browser.click("main button", "Try again")
    browser.until_says("251 repositories", "#count")


def test_tags_that_break_in_the_middle(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    fill(registry, tags=250)
    registry.break_("last=")
    browser.open(f"{pretended}#/ns/img")
    browser.until_says("HTTP 500", "main [role=alert]")
    assert "The list is incomplete" in browser.text("main [role=alert]")
    assert browser.text(".facts") == "Tags100 or more"
    registry.tamper.clear()
    browser.click("main button", "Try again")
    browser.until_says("Tags251", ".facts")


def test_a_registry_that_goes_away(browser: Browser, pretended: str, registry: Pretender) -> None:
    fill(registry)
    browser.open(pretended)
    registry.break_("/v2/", Answer(200, {"Content-Length": "9"}))
    browser.go("/ns/img")
    assert "The registry does not answer." in browser.text("main [role=alert]")
    browser.messages()


def test_an_absent_image(browser: Browser, pretended: str, registry: Pretender) -> None:
    fill(registry)
    browser.open(f"{pretended}#/ns/img:2.0")
    assert "No such image" in browser.text("main [role=alert]")
    browser.go("/ns/absent")
    assert "No tags" in browser.text("main")


def test_content_that_is_not_what_its_digest_says(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    fill(registry)
    registry.say("/manifests/sha256:", IMAGE.manifest.content + b" ", IMAGE.manifest.media_type)
    browser.open(f"{pretended}#/ns/img@{IMAGE.digest}")
    words = f"The content is not what its digest {str(IMAGE.digest)[:19]} says."
    assert words in browser.text("main [role=alert]")


def test_a_configuration_that_is_broken(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    """Everything else of the image is shown."""
    fill(registry)
    registry.break_("/blobs/")
    browser.open(f"{pretended}#/ns/img:1.0")
    assert "The configuration cannot be read" in browser.text("main [role=alert]")
    assert len(browser.texts(".layers li")) == 1
    assert browser.texts(".commands code")


def test_no_referrers_api(browser: Browser, pretended: str, registry: Pretender) -> None:
    fill(registry)
    browser.open(f"{pretended}#/ns/img:1.0")
    browser.until_says("This web server does not list referrers.")
