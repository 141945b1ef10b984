# SPDX-License-Identifier: Apache-2.0
"""A real browser, headless, that reaches nothing but the server under test."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from tests.support import programs

# A name for 127.0.0.1 of which a browser does not think that it is safe: what
# needs a secure context is missing there, as it is over plain HTTP in a deployment.
PLAIN_HOST = "registry.example"

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--disable-default-apps", "--no-proxy-server"),
    "--disable-ipc-flooding-protection",  # it slows down who goes from place to place by script
    f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_DEADLINE = 60  # seconds
_OFTEN = 0.02  # seconds between looks at a condition

# In every document before its own scripts: what it does, and what is done to it.
_SPY = """
window.spy = { alarms: 0, violations: [], asking: 0, most: 0 };
window.alarm = () => { window.spy.alarms += 1; };
document.addEventListener("securitypolicyviolation",
  (event) => window.spy.violations.push(event.effectiveDirective));
const ask = window.fetch;
window.fetch = async (...given) => {
  window.spy.asking += 1;
  window.spy.most = Math.max(window.spy.most, window.spy.asking);
  try { return await ask(...given); } finally { window.spy.asking -= 1; }
};
"""


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
        driver = webdriver.Chrome(options=options, service=Service(driver_program))
        try:
            yield driver
        finally:
            driver.quit()


class Browser:
    """What tests do with a browser; every wait is for a condition."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self._command("Page.addScriptToEvaluateOnNewDocument", source=_SPY)
        self.reset()

    def reset(self) -> None:
        """A desktop's window that likes light, and nothing left of the last page."""
        self.size(1280, 900)
        self.prefer("light")
        self.driver.get("about:blank")
        self.messages()
        self.asked()

    def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self._command("Emulation.setDeviceMetricsOverride", **metrics)

    def prefer(self, scheme: str) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._command("Emulation.setEmulatedMedia", features=[feature])

    def allow_clipboard(self, address: str) -> None:
        permissions = ["clipboardReadWrite", "clipboardSanitizedWrite"]
        self._command("Browser.grantPermissions", origin=address, permissions=permissions)

    def open(self, url: str) -> None:
        """Load ``url`` anew, and wait until the page has read what it shows first."""
        if self.driver.current_url != "about:blank":
            self.driver.get("about:blank")
        self.driver.get(url)
        self.settle()

    def go(self, fragment: str) -> None:
        """Follow a link in the page, by what stands behind the #."""
        self.run("location.hash = arguments[0]", fragment)
        self.settle()

    def settle(self) -> None:
        self.until(
            "const count = document.querySelector('#count').textContent;"
            "return document.querySelector('main h1, main section')"
            " && !document.querySelector('.busy') && count && !count.includes('reading')"
        )

    def until(self, script: str, *given: Any) -> Any:
        """Wait until ``script`` returns something true, and return it."""
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        try:
            return WebDriverWait(self.driver, _DEADLINE, _OFTEN).until(
                lambda _: self.run(script, *given)
            )
        except TimeoutException:
            text = self.run("return document.body.innerText")
            raise AssertionError(f"never true: {script} {given}; the page says {text}") from None

    def until_says(self, text: str, selector: str = "main") -> None:
        self.until(
            "return document.querySelector(arguments[0])?.textContent.includes(arguments[1])",
            selector,
            text,
        )

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def texts(self, selector: str) -> list[str]:
        """What stands in each element; whitespace as in the source."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)",
            selector,
        )
        return found

    def text(self, selector: str) -> str:
        (only,) = self.texts(selector)
        return only

    def click(self, selector: str, words: str = "") -> None:
        """Click the first element that says ``words``, as a mouse does."""

        def click() -> bool:
            element = self.until(
                "return [...document.querySelectorAll(arguments[0])]"
                ".find((e) => e.checkVisibility() && e.textContent.includes(arguments[1]))",
                selector,
                words,
            )
            self.run("arguments[0].scrollIntoView({ block: 'center' })", element)
            element.click()
            return True

        self._again(click)

    def press(self, *keys: str, control: bool = False, shift: bool = False) -> None:
        """Press keys one after the other, wherever the focus is."""
        from selenium.webdriver import ActionChains, Keys

        held = [Keys.CONTROL] * control + [Keys.SHIFT] * shift
        actions = ActionChains(self.driver, duration=0)
        for key in held:
            actions.key_down(key)
        actions.send_keys(*keys)
        for key in held:
            actions.key_up(key)
        actions.perform()

    def focused(self) -> str:
        """What a screen reader would call the element with the focus."""
        (name,) = self._again(lambda: (self.run("return document.activeElement").accessible_name,))
        return str(name)

    def accessible(self) -> list[dict[str, Any]]:
        """The accessibility tree's nodes, those left out that nobody is told of."""
        nodes = self._command("Accessibility.getFullAXTree")["nodes"]
        return [node for node in nodes if not node["ignored"]]

    def messages(self) -> list[str]:
        """What the console has been told since the last time, by pages or about them.

        But for answers that are no success, which tests ask for.
        """
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["source"] != "network"]

    def asked(self) -> list[str]:
        """Every URL that has been asked for since the last time."""
        return [url for _, url in self.requests()]

    def requests(self) -> list[tuple[str, str]]:
        """Every method and URL that has been asked for since the last time."""
        entries = self.driver.get_log("performance")
        events = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [
            event["params"]["request"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [(request["method"], request["url"]) for request in sent]

    def _again(self, look: Callable[[], Any]) -> Any:
        """Return what ``look`` returns; as it looks the page may put another element in place."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(
            self.driver, _DEADLINE, _OFTEN, ignored_exceptions=[StaleElementReferenceException]
        )
        return waiting.until(lambda _: look())

    def _command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)
