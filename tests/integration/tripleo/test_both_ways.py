# SPDX-License-Identifier: Apache-2.0
"""A list goes with tripleo-common or without it: what becomes of it is the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from oslo_config import cfg

from image_uploader_plugins import tripleo
from image_uploader_plugins.lists import image_list, uploads
from image_uploader_plugins.local_export import options as tree_options
from image_uploader_plugins.runs.journal import Journal
from image_uploader_plugins.testing.images import corpus
from tests.support import trees

SERVED_AT = "192.0.2.1:8787"  # RFC 5737: nothing answers there


def listed(folder: Path, source: str, *entries: dict[str, Any]) -> list[str]:
    """Write a list; names are completed with the source."""
    items = [
        {"push_destination": SERVED_AT, **entry, "imagename": f"{source}/{entry['imagename']}"}
        for entry in entries
    ]
    path = folder / "images.yaml"
    path.write_text(yaml.safe_dump({"container_images": items}))
    return [str(path)]


def upload(names: list[str], conf: cfg.ConfigOpts, **more: Any) -> None:
    """Upload without tripleo-common."""
    uploads.upload(image_list.read(names), conf, **more)


def told(journal: Journal, error: Exception | None) -> list[object]:
    """Return what a run says of its images and of itself; of threads some take turns."""
    taken: dict[str, Any] = {"seconds": 0.0, "blobs": [], "bytes_fetched": 0}
    records = [dataclasses.replace(record, **taken) for record in journal.images]
    return [str(error), *map(dataclasses.asdict, records)]


def run(upload: Any, conf: cfg.ConfigOpts, root: Path, names: list[str], **more: Any) -> Any:
    conf.set_override("root", str(root), group=tree_options.GROUP)
    journal = Journal(lambda _record: None)
    error = None
    try:
        upload(names, conf, journal=journal, **more)
    except Exception as e:
        error = e
    return told(journal, error), trees.catalog(root) if root.exists() else None


NAMES = [f"{image.repository}:{image.tag}" for image in corpus()]
BAD = ("absent:1.0", "Bad:1.0", "/x", "odd:a b", f"base@sha256:{'0' * 64}")


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([{"imagename": name} for name in NAMES], id="all", marks=pytest.mark.slow),
        [{"imagename": "absent:1.0"}],
        [{"imagename": "base:1.0", "uploader": "nowhere"}],
        [
            {"imagename": "base:1.0", "push_destination": f"{SERVED_AT}/a"},
            {"imagename": "edge/oci:1.0", "names": "full", "modify_append_tag": "-b"},
            {"imagename": "multi/oci:1.0", "multi_arch": "true", "signatures": "false"},
        ],
    ],
)
def test_what_becomes_of_a_list(
    source: str, conf: cfg.ConfigOpts, tmp_path: Path, entries: list[dict[str, Any]]
) -> None:
    names = listed(tmp_path, source, *entries)
    ours = run(upload, conf, tmp_path / "ours", names)
    theirs = run(tripleo.upload_files, conf, tmp_path / "theirs", names)
    assert ours == theirs


def test_every_failure_counts_by_itself(source: str, conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    """tripleo-common's errors count those of an uploader as one."""
    names = listed(tmp_path, source, *({"imagename": name} for name in ("base:1.0", *BAD)))
    (error, *records), catalog = run(upload, conf, tmp_path / "ours", names)
    theirs = run(tripleo.upload_files, conf, tmp_path / "theirs", names)
    assert (records, catalog) == (theirs[0][1:], theirs[1])
    assert error.startswith("5 of 6 images failed: ")


def test_two_images_of_one_name(source: str, conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    digest = next(image.digest for image in corpus() if image.repository.value == "base")
    names = listed(
        tmp_path,
        source,
        {"imagename": "edge/oci:1.0"},
        {"imagename": "multi/oci:1.0"},
        {"imagename": f"multi/oci:1.0@{digest}"},
    )
    ours = run(upload, conf, tmp_path / "ours", names)
    theirs = run(tripleo.upload_files, conf, tmp_path / "theirs", names)
    assert ours == theirs
    assert ours[0][0].startswith("multi/oci:1.0 would be ")
    assert ours[1] is None
