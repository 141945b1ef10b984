# SPDX-License-Identifier: Apache-2.0
"""The site builds, and a warning is an error."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from image_uploader_plugins.cli.app import COMMANDS
from image_uploader_plugins.loader import list_opts
from tests.docs.console import SOURCE

pytest.importorskip("sphinx")


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
