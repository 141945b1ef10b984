# SPDX-License-Identifier: Apache-2.0
"""The options that say what of images is copied."""

from __future__ import annotations

import argparse

import pytest

from image_uploader_plugins.cli.copy_options import add_options, all_platforms, copy_options
from tests.support.platforms import AMD64, ARM64

SPDX, BUNDLE = "text/spdx+json", "application/vnd.dev.sigstore.bundle.v0.3+json"


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser, multi_arch=True)
    return parser.parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "platforms", "is_all"),
    [
        ([], None, False),
        (["--multi-arch"], None, True),
        (["--platform", "all"], None, True),
        (["--platform", "linux/amd64"], (AMD64,), False),
        (["--platform", "linux/amd64,linux/arm64/v8"], (AMD64, ARM64), False),
        (["--platform", "linux/arm64", "--platform", "linux/amd64"], (ARM64, AMD64), False),
    ],
)
def test_platforms(arguments: list[str], platforms: object, *, is_all: bool) -> None:
    found = parsed(*arguments)
    assert copy_options(found).platforms == platforms
    assert all_platforms(found) is is_all
    assert parsed().platform == ()


@pytest.mark.parametrize("flag", ["--no-signatures", "--no-referrers"])
def test_signatures(flag: str) -> None:
    assert copy_options(parsed()).signatures
    assert not copy_options(parsed(flag)).signatures


def test_types_of_artifacts() -> None:
    found = copy_options(parsed("--referrers", SPDX, "--referrers", f"{BUNDLE}, {SPDX}"))
    assert (found.signatures, found.artifact_types) == (True, (SPDX, BUNDLE))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--platform", "amd64"], "--platform: not a platform: 'amd64'; one has the form OS/"),
        (["--platform", "all", "--platform", "linux/amd64"], "all is for every platform"),
        (["--platform", "linux/amd64", "--multi-arch"], "not allowed with argument --platform"),
        (["--referrers", "sbom"], "--referrers: not a type of artifacts: 'sbom'"),
        (["--referrers", SPDX, "--no-referrers"], "not allowed with argument --referrers"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parsed(*arguments)
    assert problem in capsys.readouterr().err
