# SPDX-License-Identifier: Apache-2.0
"""With the keyboard alone, on a phone, in the light and in the dark, and read aloud."""

from __future__ import annotations

import pytest

from tests.integration.browser import content
from tests.support.browser import Browser

pytestmark = pytest.mark.slow

ENTER, TAB, DOWN, UP, END, HOME = "\ue007", "\ue004", "\ue015", "\ue013", "\ue010", "\ue011"
PLACES = [
    *("", "#/multi/oci", "#/multi/oci:1.0", "#/evil/image:1.0", "#/evil/index:1.0", "#/nowhere:"),
    *("#/signed/app:1.0", "#/old/schema1:1.0", "#/absent/image:1.0", "#/evil/artifact:1.0"),
    *(f"#/{name}:1.0" for name in (content.LONG_WORD, content.LONG_PATH)),
    f"#/evil/many:{content.LONG_TAG}",
]


def after_tab(browser: Browser) -> str:
    """What has the focus after one more press of Tab."""
    browser.press(TAB)
    return browser.focused()


def test_a_walk_with_the_keyboard(browser: Browser, site: str) -> None:
    """From the search to a repository, its tag, a command's button, and back."""
    browser.allow_clipboard(site)
    browser.open(site)
    browser.press("/")
    assert browser.focused() == "Search repositories"
    browser.press("multi", DOWN)
    assert browser.focused() == "multi/docker"
    browser.press(DOWN)
    assert browser.focused() == "multi/oci"
    browser.press(UP, UP)
    assert browser.focused() == "Search repositories"
    browser.press(DOWN, END, ENTER)
    browser.until_says("OCI index of 3 manifests")
    assert browser.focused() == "multi/oci"
    assert browser.run("return document.activeElement.tagName") == "H1"
    browser.press(TAB)
    assert browser.focused() == "1.0"
    browser.press(ENTER)
    browser.until_says("multi/oci:1.0", "main h1")
    browser.settle()
    assert browser.focused() == "multi/oci:1.0"
    walked = [after_tab(browser) for _ in range(10)]
    assert walked == [
        "Copy the digest",
        "By tag",
        "By digest",
        "Copy the reference",
        *(
            f"Copy the command for {program}"
            for program in ("podman", "docker", "nerdctl", "crictl", "ctr", "skopeo")
        ),
    ]
    browser.press(TAB, shift=True)
    browser.press(ENTER)
    browser.until_says("Copied the command for ctr", "#status")
    assert browser.focused() == "Copy the command for ctr"


def test_one_stop_in_the_list(browser: Browser, site: str) -> None:
    """However many repositories there are, Tab goes through them in one step."""
    browser.open(f"{site}#/base")
    browser.until_says("Docker image")
    browser.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    stops = [after_tab(browser) for _ in range(6)]
    assert stops == [
        "Skip to the content",
        stops[1],  # the registry's own name
        "Colours",
        "Search repositories",
        "base 1",
        "\u2039 All repositories",
    ]
    assert browser.text("#host") == stops[1]


def test_skipping_to_the_content(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/base")
    browser.press(TAB)
    assert browser.focused() == "Skip to the content"
    assert browser.run("return document.activeElement.getBoundingClientRect().width") > 50
    browser.press(ENTER, TAB)
    assert browser.focused() == "1.0"


def test_typing_a_slash_is_typing(browser: Browser, site: str) -> None:
    browser.open(site)
    browser.press("/", "odd/", ENTER)
    browser.until_says("odd/artifact", "h1")


def test_the_focus_can_be_seen(browser: Browser, site: str) -> None:
    browser.open(f"{site}#/base:1.0")
    for _ in range(12):
        browser.press(TAB)
        outline, size = browser.run(
            "const style = getComputedStyle(document.activeElement);"
            "return [style.outlineStyle, parseFloat(style.outlineWidth)]"
        )
        assert (outline, size) == ("solid", 2), browser.focused()


@pytest.mark.parametrize("width", [320, 375, 761])
def test_no_place_is_wider_than_the_screen(browser: Browser, site: str, width: int) -> None:
    """WCAG 2.2, 1.4.10."""
    browser.size(width, 812, mobile=width < 761)
    browser.open(site)
    for place in PLACES:
        browser.go(place or "#/")
        browser.run("for (const details of document.querySelectorAll('details')) details.open = 1")
        assert browser.run("return document.documentElement.scrollWidth") <= width, place
        assert not browser.run(
            "return [...document.querySelectorAll('main *')]"
            ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1)"
            ".map((e) => e.outerHTML.slice(0, 200))"
        ), place


def test_a_phone_shows_one_thing_at_a_time(browser: Browser, site: str) -> None:
    browser.size(375, 812, mobile=True)
    browser.open(site)
    visible = "return [...arguments].map((s) => document.querySelector(s).checkVisibility())"
    assert browser.run(visible, "#side", "main") == [True, False]
    browser.click("#names a", "edge/")
    browser.until_says("OCI image")
    assert browser.run(visible, "#side", "main") == [False, True]
    browser.click(".back")
    browser.until("return document.querySelector('#side').checkVisibility()")
    browser.settle()
    assert browser.run(visible, "#side", "main") == [True, False]
    assert browser.run("return document.activeElement.closest('#names') !== null")


def test_targets_for_fingers(browser: Browser, site: str) -> None:
    """WCAG 2.2, 2.5.8 asks for 24 pixels; on a phone 40 are better."""
    browser.size(375, 812, mobile=True)
    for place in ("", "#/signed/app:1.0", "#/multi/oci:1.0"):
        browser.open(site + place)
        small = browser.run(
            "return [...document.querySelectorAll('a, button, input, select, summary')]"
            ".filter((e) => e.checkVisibility() && !e.matches('.skip'))"
            ".filter((e) => e.getBoundingClientRect().height < 39.5).map((e) => e.textContent)"
        )
        assert small == []


PAPER = "return getComputedStyle(document.body).backgroundColor"
LIGHT, DARK = "rgb(246, 247, 247)", "rgb(18, 21, 24)"


def test_light_and_dark(browser: Browser, site: str) -> None:
    """As the system has it, unless chosen otherwise; a choice is kept."""
    browser.open(site)
    assert browser.run(PAPER) == LIGHT
    browser.prefer("dark")
    assert browser.run(PAPER) == DARK
    browser.run("return document.querySelector('#theme')").send_keys("Light")
    assert browser.run(PAPER) == LIGHT
    browser.open(site)
    assert browser.run(PAPER) == LIGHT
    browser.run("return document.querySelector('#theme')").send_keys("Auto")
    assert browser.run(PAPER) == DARK
    assert browser.run("return getComputedStyle(document.querySelector('#search')).colorScheme")


def test_what_is_told_to_a_screen_reader(browser: Browser, site: str) -> None:
    """Everything that can be used has a name, and there is a way around."""
    used = {"button", "link", "searchbox", "combobox", "img", "region", "progressbar"}
    browser.open(site)
    for place in PLACES:
        browser.go(place or "#/")
        nodes = browser.accessible()
        roles = [node["role"]["value"] for node in nodes]
        for role in ("banner", "navigation", "main", "status"):
            assert roles.count(role) == 1, (place, role)
        names = [node.get("name", {}).get("value") for node in nodes]
        told = list(zip(roles, names, strict=True))
        assert [role for role, name in told if role in used and not name] == [], place
        headings = browser.run(
            "return [...document.querySelectorAll('h1, h2, h3')].map((e) => e.tagName)"
        )
        assert (headings[0], {*headings[1:]} - {"H2"}) == ("H1", set()), place
        ids = browser.run("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids)), place
