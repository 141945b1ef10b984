# SPDX-License-Identifier: Apache-2.0
"""What a verification tells to fetch again, an upload fetches, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from oslo_config import cfg

from image_uploader_plugins import tripleo
from image_uploader_plugins.local_export.tree import Tree
from image_uploader_plugins.local_export.verify import Verification
from image_uploader_plugins.testing.images import corpus
from tests.support import trees
from tests.support.registry import TamperedRegistry


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(corpus())))
def test_upload_fetches_just_what_was_lost(
    registry: TamperedRegistry,
    source: str,
    conf: cfg.ConfigOpts,
    root: Path,
    tmp_path: Path,
    number: int,
) -> None:
    listed = tmp_path / "images.yaml"
    items = [
        {
            "imagename": f"{source}/{image.repository}:{image.tag}",
            "push_destination": "192.0.2.1:8787",
            "multi_arch": image.manifest.is_index,
        }
        for image in corpus()
    ]
    listed.write_text(yaml.safe_dump({"container_images": items}))
    tripleo.upload_files([str(listed)], conf)
    whole = trees.served(root)
    victim = next(corpus()[number].walk())
    layer = victim.manifest.layers[-1].digest
    (pooled,) = (root / ".local-export/pool").rglob(layer.encoded)
    with pooled.open("r+b") as file:
        file.write(b"bad")
    left = trees.mended(root)
    assert f"{corpus()[number].repository}:{corpus()[number].tag}" in left.to_fetch()
    registry.requests.clear()
    tripleo.upload_files([str(listed)], conf)
    fetched = {path.rpartition("/")[2] for path, _ in registry.requests if "/blobs/" in path}
    assert fetched == {str(layer)}
    assert trees.served(root) == whole
    assert Verification(Tree(root)).report().findings == ()
