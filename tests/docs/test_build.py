# SPDX-License-Identifier: Apache-2.0
"""The site builds, and a warning is an error."""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from image_uploader_plugins.cli.program import COMMANDS
from image_uploader_plugins.loader import list_opts
from image_uploader_plugins.testing.web_server import Server, running
from tests.docs.console import SOURCE
from tests.support.browser import Browser, chromium

pytest.importorskip("sphinx")

# Pages with wide tables and long lines.
WIDE = ("api", "commands", "comparison", "conformance", "operating", "troubleshooting")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options = ("-q", "-W", "--keep-going", "-d", str(folder / "doctrees"), "-b", "html")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, str(SOURCE), str(folder / "html")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return folder / "html"


@pytest.mark.slow
def test_every_command_has_its_section(site: Path) -> None:
    page = (site / "commands.html").read_text()
    for command in entry_points(group=COMMANDS):
        assert f'<section id="{command.name}">' in page


@pytest.mark.slow
def test_every_option_is_there(site: Path) -> None:
    page = (site / "configuration.html").read_text()
    for group, options in list_opts():
        for option in options:
            assert f'id="{group}.{option.name}"' in page


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(_Silent, directory=str(site))
    with running(Server(("127.0.0.1", 0), handler)) as address:
        yield f"http://{address}"


def _copied(browser: Browser, block: int) -> str:
    """What the button at a block copies."""
    button = browser.driver.find_elements("css selector", "button.copybtn")[block]
    browser.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", button)
    button.click()
    browser.until("return arguments[0].classList.contains('success')", button)
    return str(
        browser.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    )


@pytest.mark.slow
def test_in_a_browser(address: str) -> None:
    """A phone shows a page without scrolling it sideways; what is copied are commands."""
    with chromium() as driver:
        browser = Browser(driver)
        browser.size(360, 780, mobile=True)
        for page in WIDE:
            driver.get(f"{address}/{page}.html")
            width = browser.run("return document.documentElement.scrollWidth")
            assert width <= 360, page
        browser.size(1000, 800)
        driver.get(f"{address}/first.html")
        browser.allow_clipboard(address)
        copied = [_copied(browser, block) for block in (0, 1, 4)]
        assert copied[0] == "image-uploader demo --root image-serve"
        assert copied[1] == "[local_export]\nroot = /home/me/image-serve"
        assert copied[2].splitlines() == [
            "curl -s http://127.0.0.1:8787/v2/_catalog",
            "podman pull --tls-verify=false 127.0.0.1:8787/edge/oci:1.0",
        ]
        driver.get(f"{address}/install.html")
        assert _copied(browser, 0).startswith("python3.11 -m venv .venv\n.venv/bin/pip install")
        browser.size(360, 780, mobile=True)
        driver.get(f"{address}/comparison.html")
        assert browser.run(
            "const table = document.querySelector('table'), around = table.parentElement;"
            "return table.scrollWidth > 700"
            " && around.clientWidth < 360 && getComputedStyle(around).overflowX === 'auto'"
        )
