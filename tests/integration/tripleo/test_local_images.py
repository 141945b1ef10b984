# SPDX-License-Identifier: Apache-2.0
"""Images modified by, or already in, the containers-storage of this machine: real buildah."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tripleo_common.image import exception, image_uploader

from image_uploader_plugins import errors, manifest, media_types, tripleo
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.testing import images
from image_uploader_plugins.tripleo.containers_storage import LocalStorage
from tests.support import programs, trees
from tests.support.registry import TamperedRegistry

pytestmark = [
    pytest.mark.slow,
    # NOTE: tripleo-common does not close the pipe from which it has read a layer to its end.
    pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedReader:ResourceWarning"),
]

SERVED_AT = "192.0.2.1:8787"
IMAGE = images.image("ns/img", "1.0", [images.layer({"bin/hello": b"hello\n" * 99})])


@pytest.fixture
def registry() -> TamperedRegistry:
    return TamperedRegistry([IMAGE])


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A containers-storage of the test's own, where tripleo-common expects the machine's."""
    for name in ("buildah", "tar-split"):
        programs.require(name)
    graph = tmp_path / "storage"
    config = tmp_path / "storage.conf"
    config.write_text(
        f'[storage]\ndriver = "overlay"\ngraphroot = "{graph}"\nrunroot = "{tmp_path}/run"\n'
    )
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(config))

    def find(*path: str) -> str:
        found = graph.joinpath(*path)
        if not found.exists():
            raise exception.ImageUploaderException(f"Missing file {found}")
        return str(found)

    uploader = image_uploader.PythonImageUploader
    monkeypatch.setattr(uploader, "_containers_file_path", staticmethod(find))
    if subprocess.run(["buildah", "from", "scratch"], capture_output=True, check=False).returncode:
        pytest.skip("buildah cannot use overlay here")
    yield graph
    for command in (["rm", "--all"], ["rmi", "--all", "--force"]):
        subprocess.run(["buildah", *command], capture_output=True, check=True)
    # What keeps a mount alive must not survive the test.
    subprocess.run(["umount", str(graph / "overlay")], capture_output=True, check=False)


def modify(name: str, target: str, folder: Path, *options: str) -> None:
    """What a modify role does: one layer more, and another name."""
    (folder / "patch").write_text("patched\n" * 99)
    container = _buildah("from", name)
    _buildah("copy", container, str(folder / "patch"), "/etc/patch")
    _buildah("commit", "--quiet", *options, container, target)
    _buildah("rm", container)


def _buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def local_names() -> list[str]:
    listed = json.loads(_buildah("images", "--json"))
    return sorted(name for image in listed for name in image.get("names") or [])


def task(source: str, cleanup: str = "full") -> Any:
    return image_uploader.UploadTask(
        f"{source}/ns/img:1.0", None, SERVED_AT, "-mod", "some-role", {"a": "b"}, cleanup, False
    )


@pytest.fixture
def playbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Stands for the role: ansible is not ours to test, what it does with buildah is."""
    calls: list[tuple[Any, ...]] = []

    def run(
        role: str, variables: Any, source: str, target: str, append: str, container_build_tool: str
    ) -> None:
        calls.append((role, variables, container_build_tool))
        modify(source, target + append, tmp_path, "--format", "docker")

    monkeypatch.setattr(
        tripleo.PluginImageUploader, "run_modify_playbook", staticmethod(run), raising=True
    )
    return calls


@pytest.mark.parametrize("cleanup", ["full", "partial", "none"])
def test_a_modified_image(
    source: str,
    manager: Any,
    driver: LocalExportDriver,
    root: Path,
    playbook: list[tuple[Any, ...]],
    cleanup: str,
) -> None:
    uploader = tripleo.register(manager, driver)
    uploader.add_upload_task(task(source, cleanup))
    uploader.run_tasks()
    assert playbook == [("some-role", {"a": "b"}, "buildah")]
    assert trees.tags(root, "ns/img") == ["1.0", "1.0-mod"]
    assert not trees.problems(root)
    stored = (root / "v2/ns/img/.tags/1.0-mod/index.json").read_bytes()
    modified = manifest.Manifest.parse(stored)
    assert modified.media_type == media_types.DOCKER_MANIFEST
    assert len(modified.layers) == 2
    # The layer that came from the registry is that blob still, not a new gzip of it.
    assert modified.layers[0].digest == IMAGE.manifest.layers[0].digest
    modified_name, plain_name = f"{SERVED_AT}/ns/img:1.0-mod", f"{SERVED_AT}/ns/img:1.0"
    pulled = f"{source}/ns/img@{IMAGE.digest}"
    left = {
        "full": [],
        "partial": [modified_name],
        "none": sorted([modified_name, plain_name, pulled]),
    }
    assert [name for name in local_names() if not name.startswith("localhost/")] == left[cleanup]


def test_oci_stays_oci(
    source: str, manager: Any, driver: LocalExportDriver, root: Path, tmp_path: Path
) -> None:
    """LP#1860585: media types of both kinds in one manifest are refused by podman."""
    name = "localhost/made/here:2.0"
    modify("scratch", name, tmp_path, "--format", "oci")
    uploader = tripleo.register(manager, driver)
    uploader.add_upload_task(
        image_uploader.UploadTask(
            f"containers-storage:{name}", None, SERVED_AT, None, None, None, "full", False
        )
    )
    uploader.run_tasks()
    stored = manifest.Manifest.parse((root / "v2/made/here/.tags/2.0/index.json").read_bytes())
    assert stored.media_type == media_types.OCI_MANIFEST
    assert stored.config
    types = {stored.config.media_type, *(layer.media_type for layer in stored.layers)}
    assert all(kind.startswith("application/vnd.oci.image.") for kind in types)
    assert not trees.problems(root)
    assert name in local_names()


def test_an_image_that_is_not_here(source: str, manager: Any, driver: LocalExportDriver) -> None:
    """tripleo-common warns, and goes on as if it were uploaded."""
    uploader = tripleo.register(manager, driver)
    missing = image_uploader.UploadTask(
        "containers-storage:localhost/absent:1.0", None, SERVED_AT, "", None, None, "full", False
    )
    uploader.add_upload_task(missing)
    with pytest.raises(
        (exception.ImageNotFoundException, exception.ImageUploaderException), match=r"absent:1\.0"
    ):
        uploader.run_tasks()


def test_a_role_that_fails_leaves_no_tag(
    source: str, manager: Any, driver: LocalExportDriver, root: Path, monkeypatch: Any
) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise exception.ImageUploaderException("Modifying image failed")

    monkeypatch.setattr(tripleo.PluginImageUploader, "run_modify_playbook", staticmethod(fail))
    uploader = tripleo.register(manager, driver)
    uploader.add_upload_task(task(source))
    with pytest.raises(exception.ImageUploaderException, match="Modifying image failed"):
        uploader.run_tasks()
    assert trees.tags(root, "ns/img") == ["1.0"]


@pytest.mark.parametrize(
    ("name", "multi_arch", "kind"),
    [
        ("{source}/ns/img:1.0", True, "multi-arch"),
        ("containers-storage:localhost/ns/img:1.0", False, "local"),
        (f"{{source}}/ns/img@{IMAGE.digest}", False, "untagged"),
    ],
)
def test_what_cannot_be_modified(
    source: str, manager: Any, driver: LocalExportDriver, name: str, multi_arch: bool, kind: str
) -> None:
    uploader = tripleo.register(manager, driver)
    wrong = image_uploader.UploadTask(
        name.format(source=source), None, SERVED_AT, "-mod", "role", {}, "full", multi_arch
    )
    with pytest.raises(exception.ImageUploaderException, match=kind):
        uploader.add_upload_task(wrong)


@pytest.mark.parametrize("config", [b"{}", b'{"rootfs": []}'])
def test_an_image_whose_config_names_no_layers(
    tmp_path: Path, driver: LocalExportDriver, config: bytes
) -> None:
    """It is not taken for one without layers."""
    digest = str(Digest.of(config))
    key = "=" + base64.b64encode(digest.encode()).decode()
    manifest = {"config": {"mediaType": media_types.OCI_CONFIG, "digest": digest}}
    for path, content in {
        "overlay-images/images.json": json.dumps([{"id": "x", "names": ["a:1"]}]).encode(),
        "overlay-images/x/manifest": json.dumps(manifest).encode(),
        f"overlay-images/x/{key}": config,
        "overlay-layers/layers.json": b"[]",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    local = LocalStorage(lambda *path: str(tmp_path.joinpath(*path)), lambda *_: iter(()))
    with pytest.raises(errors.ManifestInvalid, match="the config of a:1 names no layers"):
        local.upload("a:1", driver, RepositoryName("a"), Tag("1"))


def test_what_is_modified_is_of_one_platform(
    source: str, manager: Any, driver: LocalExportDriver
) -> None:
    chosen = CopyOptions(platforms=(Platform.parse("linux/amd64"),))
    uploader = tripleo.register(manager, driver, options=chosen)
    wrong = image_uploader.UploadTask(
        f"{source}/ns/img:1.0", None, SERVED_AT, "-mod", "role", {}, "full", False
    )
    with pytest.raises(exception.ImageUploaderException, match="multi-arch"):
        uploader.add_upload_task(wrong)
