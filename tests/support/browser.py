"""A real browser, headless, that reaches nothing but the server under test."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator
from typing import Any

from tests.support import programs

# A name for 127.0.0.1 of which a browser does not think that it is safe: what
# needs a secure context is missing there, as it is over plain HTTP in a deployment.
PLAIN_HOST = "registry.example"

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--disable-default-apps", "--no-proxy-server"),
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A WebDriver with a profile of its own, which is gone afterwards."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    program = programs.require("chromium")
    driver_program = programs.require("chromedriver", "chromium-driver")
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = webdriver.Chrome(options=options, service=Service(driver_program))
        try:
            yield browser
        finally:
            browser.quit()


def messages(browser: Any) -> list[str]:
    """What the console has been told since the last time, by pages or about them."""
    return [entry["message"] for entry in browser.get_log("browser")]


def asked(browser: Any) -> list[str]:
    """Every URL that has been asked for since the last time."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
