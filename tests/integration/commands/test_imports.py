# SPDX-License-Identifier: Apache-2.0
"""The start of a command imports what it needs, and nothing that takes time besides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from tests.support import commands

PACKAGE = "image_uploader_plugins"
# What asks registries, copies, serves, or belongs to an extra.
HEAVY = {
    "asyncio",
    "cheroot",
    "difflib",
    "multiprocessing",
    "netaddr",
    "oslo_utils",
    "prometheus_client",
    "requests",
    "rfc3986",
    "rich",
    "tenacity",
    "tomllib",
    "tripleo_common",
    "urllib.request",
    "urllib3",
    "werkzeug",
    "yaml",
    *(
        f"{PACKAGE}.{room}"
        for room in ("copying.copier", "sources.registries", "testing", "tripleo")
    ),
}
# What every command that reads the configuration needs.
CONFIGURED = {"oslo_config", "ssl", f"{PACKAGE}.local_export", f"{PACKAGE}.loader"}
# What those need that copy, and not those that look at a tree.
COPYING = {f"{PACKAGE}.{room}" for room in ("copying", "runs", "sources")}
LOOKING = {"list", "show"}
# Of these no command needs another one's.
COMMANDS = {"cli.commands.verify", "cli.commands.serve", "cli.commands.upload", "archives"}


def imported(*arguments: object) -> set[str]:
    """The modules, with the packages they are in, that a command line imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *commands.line(None, *arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["help"]])
def test_help_needs_no_command(arguments: list[str]) -> None:
    unwanted = HEAVY | CONFIGURED | {f"{PACKAGE}.{name}" for name in COMMANDS}
    found = imported(*arguments)
    assert not found & unwanted
    assert f"{PACKAGE}.cli.program" in found
    # By it the version is read, for that option alone.
    assert ("email.parser" in found) is ("--version" in arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["show", "--help"],
        ["verify"],
        ["gc", "--dry-run"],
        ["drivers"],
        ["upload", "--help"],
        ["sync", "--help"],
        ["serve", "--help"],
        ["export", "--help"],
    ],
)
def test_a_command_imports_what_it_needs(root: Path, tmp_path: Path, arguments: list[str]) -> None:
    LocalExportDriver(root).close()
    config = commands.configuration(root, tmp_path)
    found = imported("--config-file", config, *arguments)
    assert not found & HEAVY
    others = {f"{PACKAGE}.cli.commands.{name}" for name in ("delete", "demo", "prepare")}
    assert not found & others
    if arguments[0] in LOOKING:
        assert not found & COPYING
