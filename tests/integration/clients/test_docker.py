# SPDX-License-Identifier: Apache-2.0
"""Docker's own daemon, and a docker-registry between it and a tree.

Both send an Accept line for each type, in another order each time: of a tag that stands
for several platforms every pull must get the one that is asked for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import requests

from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.testing.images import Image
from tests.support import trees, web
from tests.support.clients import Run, by_name
from tests.support.registry import docker_registry

pytestmark = pytest.mark.slow

PULLS = int(os.environ.get("DOCKER_PULLS", "10"))
_DEADLINE = 60  # seconds


@pytest.mark.parametrize("name", ["multi/docker", "multi/oci"])
def test_a_pull_gets_the_platform_that_it_names(
    docker: Run, server: str, kind: web.Kind, name: str
) -> None:
    image, target = by_name(name), f"{server}/{name}:1.0"
    arm = image.children[1].manifest.config
    assert arm
    # Only what sees one line alone is a matter of chance.
    for _ in range(PULLS if kind == "nginx" else 2):
        docker("pull", "--quiet", "--platform", "linux/arm64", target)
        [found] = json.loads(docker("image", "inspect", target))
        assert (found["Architecture"], found["Id"]) == ("arm64", str(arm.digest))
        # By whichever digest dockerd calls it, what is listed there is the whole list.
        assert found["RepoDigests"] == [f"{server}/{name}@{image.digest}"]
        docker("rmi", target)


def test_a_proxy_hands_on_the_list(kind: web.Kind, tmp_path: Path) -> None:
    """docker-registry as a pull-through cache asks once, and keeps what it got."""
    image = by_name("multi/docker")
    with web.open_folder() as folder:
        tags = [f"v{number}" for number in range(PULLS)]
        with LocalExportDriver(folder / "tree") as driver:
            for tag in tags:
                trees.put(driver, image, tag)
        with (
            web.serve(kind, folder / "tree") as server,
            docker_registry(tmp_path, f"http://{server}") as proxy,
        ):
            for tag in tags:
                _is_the_list(image, f"http://{proxy}/v2/{image.repository}/manifests/{tag}")


def _is_the_list(image: Image, url: str) -> None:
    media_type = image.manifest.media_type
    answer = requests.get(url, headers={"Accept": media_type}, timeout=_DEADLINE)
    assert answer.content == image.manifest.content
    assert answer.headers["Content-Type"] == media_type
