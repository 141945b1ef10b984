# SPDX-License-Identifier: Apache-2.0
"""The page of messages has all messages, and no others."""

from __future__ import annotations

import re

from image_uploader_plugins import errors
from image_uploader_plugins.local_export.verify.finding import Kind
from tests.docs import message_templates
from tests.docs.console import SOURCE

PAGE = (SOURCE / "troubleshooting.rst").read_text()

# The words of the operating system and of libraries.
_FROM_ELSEWHERE = {
    *("Connection refused", "Permission denied", "No space left on device"),
    *("Disk quota exceeded", "Read-only file system", "Input/output error"),
    *("argument", "unrecognized arguments", "the following arguments are required"),
}
_BLOCK = re.compile(r"^\.\. message:: (.+\n(?:   \S.*\n)*)", re.MULTILINE)
_VALUE = re.compile(r"<[^<>]*>")


def quoted() -> set[str]:
    """The bare templates of the messages on the page."""
    lines = [line for block in _BLOCK.findall(PAGE) for line in block.splitlines()]
    return {message_templates.bare(_VALUE.sub("<>", line)) for line in lines}


def test_every_message_of_the_code_is_on_the_page() -> None:
    found = quoted()
    missing = {
        f"{where}: {text}" for text, where in message_templates.told().items() if text not in found
    }
    assert not missing, "say in doc/source/troubleshooting.rst what to do"


def test_every_message_of_the_page_is_in_the_code() -> None:
    texts = message_templates.written()
    assert len(quoted()) > 200
    assert {text for text in quoted() - _FROM_ELSEWHERE if text not in texts} == set()


def test_every_class_of_errors_is_on_the_page() -> None:
    table = PAGE.partition("\nErrors in a program\n")[2]
    classes = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.UploaderError)
    ]
    assert re.findall(r"^   \* - ``(\w+)``$", table, re.MULTILINE) == _in_order(classes)


def _in_order(classes: list[str]) -> list[str]:
    """Classes as the drawing in their module has them."""
    assert errors.__doc__
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__)
    assert {"UploaderError", *drawn} == set(classes)
    return ["UploaderError", *drawn]


def test_every_kind_of_finding_is_on_the_page() -> None:
    table = PAGE.partition("\nFindings of verify\n")[2].partition("\nErrors in a program\n")[0]
    rows = re.findall(r"^   \* - (\w+)\n     - ``(\w+)``$", table, re.MULTILINE)
    assert rows == [(kind.severity.value, kind.word) for kind in Kind]
