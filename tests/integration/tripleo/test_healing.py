# SPDX-License-Identifier: Apache-2.0
"""What the options of a run reach: damaged blobs, and registries that are slow."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from oslo_config import cfg

from image_uploader_plugins import demonstration, errors, loader, tripleo
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.pace import Limits, Pace
from image_uploader_plugins.sources import session
from image_uploader_plugins.testing.images import Image, corpus
from tests.support import trees
from tests.support.commands import Run
from tests.support.registry import TamperedRegistry

BASE = next(image for image in corpus() if image.repository.value == "base")
LAYER = BASE.manifest.layers[0].digest
SERVED_AT = "192.0.2.1:8787"  # RFC 5737: nothing answers there


def environment(image: Image, source: str) -> dict[str, Any]:
    return demonstration.environment_for([image], source)


def flip(root: Path) -> Path:
    path = root / layout.pool_blob(LAYER)
    file = os.open(path, os.O_RDWR)
    os.pwrite(file, bytes([os.pread(file, 1, 20)[0] ^ 1]), 20)
    os.close(file)
    return path


@pytest.fixture
def listed(source: str, tmp_path: Path) -> str:
    item = {"imagename": f"{source}/{BASE.repository}:{BASE.tag}", "push_destination": SERVED_AT}
    path = tmp_path / "images.yaml"
    path.write_text(yaml.safe_dump({"container_images": [item]}))
    return str(path)


@pytest.fixture
def prepared(source: str, tmp_path: Path) -> str:
    path = tmp_path / "environment.yaml"
    path.write_text(yaml.safe_dump(environment(BASE, source)))
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["upload", "prepare"])
@pytest.mark.parametrize("check", [False, True])
def test_check_present_of_a_command(
    registry: TamperedRegistry,
    root: Path,
    run: Run,
    listed: str,
    prepared: str,
    name: str,
    check: bool,
) -> None:
    arguments = [name, *(["-e", prepared] if name == "prepare" else [listed])]
    assert run(*arguments).status == 0
    path = flip(root)
    asked = registry.asked(f"blobs/{LAYER}")
    options = ["--check-present"] if check else []
    assert run(*arguments, *options).status == 0
    assert registry.asked(f"blobs/{LAYER}") == asked + check
    assert (path.read_bytes() == BASE.blobs[LAYER]) is check
    if check:
        assert trees.problems(root) == []


@pytest.mark.slow
def test_options_reach_every_session(
    source: str, conf: cfg.ConfigOpts, listed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of tokens as well; they are made where the run is."""
    conf.set_override("minimum_rate", 7, group=loader.GROUP)
    conf.set_override("transfer_deadline", 77, group=loader.GROUP)
    seen = set()

    def noting(server: str, limits: Limits) -> Pace:
        seen.add(limits)
        return Pace(server, limits)

    monkeypatch.setattr(session, "Pace", noting)
    tripleo.upload_files([listed], conf)
    assert Limits(7, 77) in seen
    assert seen <= {Limits(7, 77), Limits()}  # finding out whether TLS is spoken has no options


@pytest.mark.slow
def test_an_image_of_a_registry_that_is_too_slow_fails_by_name(
    source: str, conf: cfg.ConfigOpts, listed: str, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    class Slow(Pace):
        def arrived(self, count: int) -> None:
            if "/blobs/" in self._server:
                raise errors.TransferTooSlow(self._server, "nothing comes")

    monkeypatch.setattr(session, "Pace", Slow)
    where = re.escape(f"{source}/v2/{BASE.repository}/blobs/sha256:")
    with pytest.raises(Exception, match=rf"{where}\w+ is too slow: nothing comes"):
        tripleo.upload_files([listed], conf)
    assert not (root / "v2/base").exists()
