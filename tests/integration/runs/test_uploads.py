# SPDX-License-Identifier: Apache-2.0
"""``upload`` of lists that need no tripleo-common, where it is not installed."""

from __future__ import annotations

import subprocess

import pytest

from image_uploader_plugins.testing.images import corpus
from tests.integration.runs.conftest import SERVED_AT, Cli, by_name, tagged
from tests.support import commands, trees


def upload(cli: Cli, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = ("upload", *arguments, "--report", cli.report_file)
    return commands.without_tripleo_common(cli.config, *words)


@pytest.mark.slow
def test_a_plain_list(cli: Cli, source: str) -> None:
    done = upload(cli, cli.images(source, *corpus(), multi_arch=True))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1].startswith(f"{len(corpus())} images, ")
    assert not trees.problems(cli.root)
    for image in corpus():
        assert trees.tags(cli.root, image.repository.value) == [str(image.tag)]
    found = cli.report()
    assert found["status"] == "succeeded"
    assert [image["source"] for image in found["images"]] == [
        f"{source}/{tagged(image)}" for image in corpus()
    ]
    assert found["images"][0]["targets"] == [f"{SERVED_AT}/{tagged(corpus()[0])}"]


@pytest.mark.parametrize(
    ("more", "needed"),
    [({"uploader": "python"}, "uploader python"), ({"modify_role": "r"}, "modify_role")],
)
def test_what_needs_tripleo_common_says_so(
    cli: Cli, source: str, more: dict[str, str], needed: str
) -> None:
    file = cli.images(source, by_name("base"), **more)
    done = upload(cli, file)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        f"ERROR: {file}: image 1: {needed}: this needs tripleo-common (No module named "
        "'tripleo_common'): install image-uploader-plugins[tripleo]"
    )
    assert not cli.root.exists()
