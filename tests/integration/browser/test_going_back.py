# SPDX-License-Identifier: Apache-2.0
"""Who goes back finds the place as it was: scrolled as far, with the same search."""

from __future__ import annotations

import pytest

from tests.integration.browser.registry import Pretender
from tests.integration.browser.test_lists import fill
from tests.support.browser import Browser

pytestmark = pytest.mark.slow

TAGS = "main td a"
TOP = "return Math.round(scrollY)"


def opened(browser: Browser, pretended: str, registry: Pretender) -> None:
    registry.size = 10_000
    fill(registry, tags=500)
    browser.open(f"{pretended}#/ns/img")


def away(browser: Browser, tag: str) -> int:
    """Scroll to a tag and open it; return how far that was."""
    browser.click(TAGS, tag)
    browser.until_says(f":{tag}", "h1")
    browser.settle()
    assert browser.run(TOP) == 0
    return int(browser.run("return Math.round(places.get('#/ns/img').top)"))


@pytest.mark.parametrize("way", ["history", "link"])
def test_back_to_the_tags(browser: Browser, pretended: str, registry: Pretender, way: str) -> None:
    opened(browser, pretended, registry)
    browser.click("main input")
    browser.press("t0")
    browser.click(".choice button", "Oldest first")
    browser.click("main button", "Show 100 more")
    top = away(browser, "t0150")
    assert top > 1000
    if way == "history":
        browser.driver.back()
    else:
        browser.click("main .back")
    browser.until("return document.querySelectorAll('main tbody tr').length === 200")
    browser.until(f"{TOP} === {top}")
    assert browser.run("return document.querySelector('main input').value") == "t0"
    assert browser.text(".choice button[aria-pressed=true]") == "Oldest first"
    assert browser.focused() == "t0150"


def test_a_new_visit_begins_at_the_top(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    opened(browser, pretended, registry)
    browser.click("main input")
    browser.press("t0")
    away(browser, "t0450")
    browser.click("#names a", "ns/img")
    browser.until("return document.querySelector('h1').textContent === 'ns/img'")
    browser.settle()
    assert browser.run(TOP) == 0
    assert browser.run("return document.querySelector('main input').value") == ""


def test_a_reload_keeps_the_place(browser: Browser, pretended: str, registry: Pretender) -> None:
    opened(browser, pretended, registry)
    browser.click("main input")
    browser.press("t0")
    browser.click("main button", "Show all 500")
    browser.run("scrollTo(0, 5000)")
    browser.driver.refresh()
    browser.until(f"{TOP} === 5000")
    assert browser.run("return document.querySelector('main input').value") == "t0"
    assert len(browser.texts(TAGS)) == 500


def test_a_phone_goes_back_to_the_list(
    browser: Browser, pretended: str, registry: Pretender
) -> None:
    """There the list of repositories takes the place of the view."""
    browser.size(375, 812, mobile=True)
    fill(registry, repositories=150)
    browser.open(pretended)
    browser.click("#names a", "ns/n0100")
    browser.until_says("ns/n0100", "h1")
    browser.settle()
    top = browser.run("return Math.round(places.get('').top)")
    assert top > 1000
    browser.driver.back()
    browser.until(f"{TOP} === {top}")
