# SPDX-License-Identifier: Apache-2.0
"""What is said where an extra is not installed."""

from __future__ import annotations

import sys

import pytest

from image_uploader_plugins import errors, extras


@pytest.mark.parametrize(
    ("extra", "module", "library", "imported"),
    [
        ("metrics", "image_uploader_plugins.runs.metrics", "prometheus_client", None),
        ("serve", "image_uploader_plugins.serving.listener", "Werkzeug", "werkzeug.wrappers"),
    ],
)
def test_what_is_missing_is_told_with_what_helps(
    monkeypatch: pytest.MonkeyPatch, extra: str, module: str, library: str, imported: str | None
) -> None:
    rooms = ("application", "messages")
    for name in (module, *(f"image_uploader_plugins.serving.{room}" for room in rooms)):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, imported or library, None)
    with pytest.raises(errors.ConfigurationError) as caught:
        extras.require(extra, module)
    assert str(caught.value).startswith(f"this needs {library} (")
    assert str(caught.value).endswith(f": install image-uploader-plugins[{extra}]")


def test_what_is_there_is_returned() -> None:
    assert extras.require("metrics", "image_uploader_plugins.runs.metrics").text
