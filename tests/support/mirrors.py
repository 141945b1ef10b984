# SPDX-License-Identifier: Apache-2.0
"""A registry that nobody has, and clients that are told of its mirror."""

from __future__ import annotations

from pathlib import Path

from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import commands
from tests.support.clients import Run, blobs_of

# Nobody has this name: what does not come from the mirror does not come at all.
REGISTRY = "registry.invalid"
IMAGE: Image = next(image for image in images.corpus() if image.repository.value == "edge/oci")
NAME = f"{REGISTRY}/{IMAGE.repository}:{IMAGE.tag}"


def configured(output: Path, *options: object, registry: str = REGISTRY) -> Path:
    """Write what clients need to take the registry's images from a mirror; returns its folder."""
    commands.process(None, "client-config", registry, "-o", output, *options).check_returncode()
    return output / "etc"


def fetched(ctr: Run, etc: Path, image: Image = IMAGE, name: str = NAME) -> None:
    """Have containerd fetch an image with the files in ``etc``, and check that it has all of it."""
    hosts = ("--hosts-dir", etc / "containerd" / "certs.d")
    ctr("content", "fetch", *hosts, "--all-platforms", name)
    held = set(ctr("content", "ls", "--quiet").splitlines())
    assert {f"sha256:{encoded}" for encoded in blobs_of(image)} <= held
    ctr("images", "rm", "--sync", name)
