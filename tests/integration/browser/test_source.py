# SPDX-License-Identifier: Apache-2.0
"""The file itself: its policy, what it never does, and its colours."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from image_uploader_plugins.local_export.views import documents

PAGE = documents.PAGE.decode()


def only(pattern: str) -> str:
    (found,) = re.findall(pattern, PAGE, re.DOTALL)
    return str(found)


def source(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"


SCRIPT, STYLE = only("<script>(.*)</script>"), only("<style>(.*)</style>")


def test_the_policy_allows_this_script_and_this_style() -> None:
    """W3C CSP 3. When this fails after a change: the right values are in its message."""
    directives = dict(
        directive.strip().split(" ", 1)
        for directive in only('<meta http-equiv="Content-Security-Policy" content="(.*?)">').split(
            ";"
        )
    )
    assert directives == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "script-src": source(SCRIPT),
        "style-src": source(STYLE),
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_the_policy_stands_before_what_it_is_for() -> None:
    assert PAGE.index("Content-Security-Policy") < PAGE.index("<style>") < PAGE.index("<script>")


@pytest.mark.parametrize(
    "way",
    [
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "setHTML", "document.write", "DOMParser"),
        *("createContextualFragment", "eval(", "Function(", "import(", "importScripts", "srcdoc"),
        *("XMLHttpRequest", "WebSocket", "sendBeacon", "EventSource", "postMessage", "Worker("),
    ],
)
def test_no_way_from_text_to_code_or_to_elsewhere(way: str) -> None:
    assert way not in SCRIPT


def test_nothing_is_loaded() -> None:
    outside = PAGE.replace("xmlns='http://www.w3.org/2000/svg'", "")
    assert not re.search(r"https?://", outside)
    assert not re.search(r"\bsrc\s*=|@import|url\(", outside)
    assert re.findall(r'<link\b[^>]*href="([^"]{10})', PAGE) == ["data:image"]
    assert not re.search(r"\s(?:on[a-z]+|style)\s*=", PAGE.replace(SCRIPT, "").replace(STYLE, ""))


def colours(scheme: str) -> dict[str, tuple[int, int, int]]:
    found = re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\);", STYLE)
    assert len(found) > 10
    chosen = {name: light if scheme == "light" else dark for name, light, dark in found}
    return {
        name: (int(text[1:3], 16), int(text[3:5], 16), int(text[5:], 16))
        for name, text in chosen.items()
    }


def luminance(colour: tuple[int, int, int]) -> float:
    parts = [part / 255 for part in colour]
    red, green, blue = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("front", "behind", "least"),
    [
        *((text, behind, 4.5) for text in ("ink", "soft", "accent") for behind in
          ("paper", "sheet", "code", "wash")),
        *(("bad", behind, 4.5) for behind in ("paper", "sheet", "code")),
        *((edge, behind, 3.0) for edge in ("edge", "own", "shared") for behind in
          ("paper", "sheet")),
    ],
)  # fmt: skip
def test_contrast(scheme: str, front: str, behind: str, least: float) -> None:
    """WCAG 2.2, 1.4.3 for text and 1.4.11 for what is no text."""
    found = colours(scheme)
    darker, lighter = sorted(luminance(found[name]) for name in (front, behind))
    assert (lighter + 0.05) / (darker + 0.05) >= least
