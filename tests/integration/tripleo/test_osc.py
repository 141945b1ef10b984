# SPDX-License-Identifier: Apache-2.0
"""The plugin that python-openstackclient loads."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tripleo_common.image import image_uploader

from image_uploader_plugins import osc


def test_openstack_finds_it() -> None:
    (point,) = importlib.metadata.entry_points(
        group="openstack.cli.extension", name="image_uploader_plugins"
    )
    assert point.load() is osc


def test_it_installs() -> None:
    parser = argparse.ArgumentParser()
    assert osc.build_option_parser(parser) is parser
    assert "local-export" in image_uploader.ImageUploadManager([]).uploaders
    make: Callable[[object], object] = osc.make_client
    assert make(object()) is None


def test_without_the_host_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    absent: Any = None
    monkeypatch.setitem(sys.modules, "image_uploader_plugins.tripleo", absent)
    monkeypatch.delattr("image_uploader_plugins.tripleo", raising=False)
    parser = argparse.ArgumentParser()
    assert osc.build_option_parser(parser) is parser
