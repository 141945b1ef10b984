# SPDX-License-Identifier: Apache-2.0
"""What an entry wishes for its images beside the others of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from oslo_config import cfg

from image_uploader_plugins import media_types, tripleo
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.demonstration import SERVED_AT
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.runs.records import ImageRecord, Outcome
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Image
from tests.support import trees
from tests.support.platforms import AMD64, ARM64, built
from tests.support.registry import TamperedRegistry

APP = images.image("app", "1", [images.layer({"a": b"a"})])
SIGNATURE_TAG = f"sha256-{APP.digest.encoded}.sig"
SIGNATURE = images.image("app", SIGNATURE_TAG, [images.layer({"s": b"s"})])
MULTI = built("multi", "1", "linux/amd64", "linux/arm64")
FOREIGN = images.Blob(b"windows", media_types.DOCKER_LAYER_GZIP)

Copy = Callable[..., ImageRecord]


def with_foreign_layer() -> Image:
    """An image whose layer has other places to come from, and is at the registry, too."""
    fields = json.loads(APP.manifest.content)
    fields["layers"].append(FOREIGN.descriptor(urls=["http://192.0.2.1/x"]))
    parsed = Manifest.parse(json.dumps(fields).encode())
    blobs = {**APP.blobs, FOREIGN.digest: FOREIGN.content}
    return Image(RepositoryName("windows"), Tag("1"), parsed, blobs)


@pytest.fixture(params=["prepare", "upload"])
def copy(
    request: pytest.FixtureRequest,
    registry: TamperedRegistry,
    source: str,
    conf: cfg.ConfigOpts,
    tmp_path: Path,
) -> Copy:
    """Copy ``app``, ``windows`` or ``multi``, by an entry with more keys, in a run with options."""
    for image in (APP, SIGNATURE, with_foreign_layer(), MULTI.index):
        registry.add(image)

    def copy(name: str, options: CopyOptions, **more: Any) -> ImageRecord:
        journal = tripleo.Journal()
        if request.param == "prepare":
            names = {"ceph_namespace": source, "ceph_image": name, "ceph_tag": "1"}
            entry = {"includes": [f"/{name}:"], "set": names, "push_destination": SERVED_AT}
            given = {"parameter_defaults": {"ContainerImagePrepare": [entry | more]}}
            tripleo.prepare(given, conf=conf, journal=journal, options=options)
        else:
            item = {"imagename": f"{source}/{name}:1", "push_destination": SERVED_AT, **more}
            file = tmp_path / "images.yaml"
            file.write_text(yaml.safe_dump([item]))
            tripleo.upload_files([str(file)], conf, journal=journal, options=options)
        (record,) = journal.images
        return record

    return copy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "key", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"signatures": False}, False),
        (True, {"signatures": "false"}, False),
        (False, {"signatures": True}, True),
    ],
)
def test_signatures(
    copy: Copy, root: Path, option: bool, key: dict[str, Any], expected: bool
) -> None:
    record = copy("app", CopyOptions(signatures=option), **key)
    assert record.signatures == ([SIGNATURE_TAG] if expected else [])
    assert trees.tags(root, "app") == sorted(["1", *record.signatures])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "key", "expected"),
    [
        (False, {}, False),
        (True, {}, True),
        (False, {"foreign_layers": True}, True),
        (True, {"foreign_layers": "False"}, False),
    ],
)
def test_foreign_layers(
    copy: Copy, root: Path, option: bool, key: dict[str, Any], expected: bool
) -> None:
    record = copy("windows", CopyOptions(foreign_layers=option), **key)
    (blob,) = [blob for blob in record.blobs if blob.digest == str(FOREIGN.digest)]
    assert blob.outcome is (Outcome.FETCHED if expected else Outcome.SKIPPED)
    assert (root / "v2/windows/blobs" / str(FOREIGN.digest)).exists() is expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "key", "expected"),
    [
        (None, {}, []),
        ((ARM64,), {}, ["linux/arm64"]),
        (None, {"platforms": ["linux/amd64"]}, ["linux/amd64"]),
        ((AMD64,), {"platforms": "linux/arm64/v8"}, ["linux/arm64"]),
        ((AMD64,), {"multi_arch": False}, []),
        ((AMD64,), {"multi_arch": True}, ["linux/amd64", "linux/arm64"]),
        ((AMD64,), {"platforms": "all"}, ["linux/amd64", "linux/arm64"]),
    ],
)
def test_platforms(
    copy: Copy, root: Path, option: Any, key: dict[str, Any], expected: list[str]
) -> None:
    record = copy("multi", CopyOptions(platforms=option), **key)
    wanted = [MULTI.image[name] for name in expected]
    found = [child.digest for child in record.children if child.why is None]
    assert [digest for digest in found if digest in map(str, (i.digest for i in wanted))] == [
        str(image.digest) for image in wanted
    ]
    manifests = {path.name for path in (root / "v2/multi/manifests").glob("sha256:*")}
    if expected:
        about = [MULTI.attestation[name] for name in expected]
        assert record.digest == str(MULTI.index.digest)
        assert manifests == {str(image.digest) for image in (MULTI.index, *wanted, *about)}
    else:
        assert manifests == {record.digest} == {str(MULTI.image["linux/amd64"].digest)}


@pytest.mark.slow
def test_types_of_artifacts(copy: Copy) -> None:
    record = copy("app", CopyOptions(), artifact_types="application/vnd.example")
    assert record.signatures == []
