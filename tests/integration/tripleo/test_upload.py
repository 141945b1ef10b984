# SPDX-License-Identifier: Apache-2.0
"""Images through tripleo-common's manager into a driver, from a real docker-registry."""

from __future__ import annotations

import collections
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from oslo_config import cfg
from tripleo_common.image import exception, image_uploader
from tripleo_common.utils.locks import processlock, threadinglock

from image_uploader_plugins import errors, manifest, media_types, tripleo
from image_uploader_plugins.copying import engine
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.runs.records import ImageRecord, Status
from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.images import Image, corpus
from image_uploader_plugins.testing.memory import MemoryDriver
from tests.support import odd_registry, trees
from tests.support import registry as registries
from tests.support.odd_registry import OddRegistry

SERVED_AT = "192.0.2.1:8787"  # RFC 5737: nothing answers there


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.docker_registry(tmp_path_factory.mktemp("registry")) as address:
        registries.push(address, corpus())
        yield address


@pytest.fixture(autouse=True)
def no_request_to_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """tripleo-common would probe, ask and post to it; nothing of that is needed."""
    real = requests.Session.send

    def send(self: Any, request: requests.PreparedRequest, **more: Any) -> Any:
        assert SERVED_AT not in str(request.url), f"{request.method} {request.url}"
        return real(self, request, **more)

    monkeypatch.setattr(requests.Session, "send", send)


def write(folder: Path, *entries: dict[str, Any], section: str = "container_images") -> str:
    path = folder / f"images-{len(list(folder.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump({section: list(entries)}))
    return str(path)


def entry(source: str, image: Image | str, **more: Any) -> dict[str, Any]:
    name = image if isinstance(image, str) else f"{image.repository}:{image.tag}"
    return {"imagename": f"{source}/{name}", "push_destination": SERVED_AT, **more}


def by_name(name: str) -> Image:
    return next(image for image in corpus() if image.repository.value == name)


def manifest_file(root: Path, image: Image) -> Path:
    folder = root / "v2" / image.repository.value / "manifests" / str(image.digest)
    return folder / "index.json"


@pytest.mark.slow
def test_every_image_keeps_its_bytes(source: str, conf: Any, root: Path, tmp_path: Path) -> None:
    file = write(tmp_path, *(entry(source, image, multi_arch=True) for image in corpus()))
    totals = tripleo.upload_files([file], conf)
    assert not trees.problems(root)
    assert trees.catalog(root) == sorted(image.repository.value for image in corpus())
    for image in corpus():
        assert trees.tags(root, image.repository.value) == [str(image.tag)]
        for part in image.walk():
            assert manifest_file(root, part).read_bytes() == part.manifest.content
    assert totals.images == len(corpus())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["none", "threads", "processes"])
def test_each_kind_of_lock(source: str, root: Path, tmp_path: Path, kind: str) -> None:
    locks = {"threads": threadinglock.ThreadingLock, "processes": processlock.ProcessLock}
    lock = locks[kind]() if kind in locks else None
    file = write(tmp_path, *(entry(source, image, uploader="tree") for image in corpus()))
    manager = image_uploader.ImageUploadManager([file], lock=lock)
    with LocalExportDriver(root) as driver:
        uploader = tripleo.register(manager, driver, "tree")
        manager.upload()
    assert len(trees.catalog(root)) == len(corpus())
    assert uploader.journal.totals().images == len(corpus())
    assert not trees.problems(root)
    assert not list((root / ".local-export" / "leases").rglob("*.*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [threadinglock.ThreadingLock, processlock.ProcessLock])
def test_a_run_that_changes_nothing(root: Path, tmp_path: Path, kind: Any) -> None:
    """One HEAD an image; it is found out once how to speak to the registry."""
    found = [images.image(f"ns/app{number}", "1", []) for number in range(3 * engine.IMAGES)]
    registry = OddRegistry(found)
    with odd_registry.serving(registry) as address, LocalExportDriver(root) as driver:
        file = write(tmp_path, *(entry(address, image, uploader="tree") for image in found))
        for _ in range(2):
            registry.asked.clear()
            registry.connections.clear()
            manager = image_uploader.ImageUploadManager([file], lock=kind())
            options = CopyOptions(signatures=False)
            tripleo.register(manager, driver, "tree", options=options)
            manager.upload()
    asked = collections.Counter((asked.method, asked.path) for asked in registry.asked)
    assert asked.pop(("GET", "/v2/")) == 1
    assert asked == {("HEAD", f"/v2/{image.repository}/manifests/1"): 1 for image in found}
    # The first one spoke TLS; images that come later take those of earlier ones.
    assert len(registry.connections) <= 1 + engine.IMAGES


@pytest.mark.slow
def test_content_comes_over_the_network_once(
    source: str, conf: Any, root: Path, tmp_path: Path
) -> None:
    file = write(tmp_path, *(entry(source, image, multi_arch=True) for image in corpus()))
    distinct = {d: c for image in corpus() for part in image.walk() for d, c in part.blobs.items()}
    first = tripleo.upload_files([file], conf)
    assert first.bytes_fetched == sum(map(len, distinct.values()))
    second = tripleo.upload_files([file], conf)
    assert (second.bytes_fetched, second.layers_uploaded) == (0, 0)
    assert second.layers_mounted == first.layers_mounted + first.layers_uploaded


@pytest.mark.slow
def test_without_multi_arch_a_list_becomes_its_amd64_image(
    source: str, conf: Any, root: Path, tmp_path: Path
) -> None:
    names = ("multi/docker", "multi/oci")
    tripleo.upload_files([write(tmp_path, *(entry(source, by_name(n)) for n in names))], conf)
    for name in names:
        child = by_name(name).children[0]
        assert (root / "v2" / name / ".tags" / "1.0").resolve().name == str(child.digest)
        assert len(list((root / "v2" / name / "manifests").glob("sha256:*"))) == 1


@pytest.mark.slow
def test_with_multi_arch_the_tag_is_the_lists_and_a_plain_image_has_one(
    source: str, conf: Any, root: Path, tmp_path: Path
) -> None:
    chosen = [by_name(name) for name in ("multi/docker", "multi/oci", "base", "edge/oci")]
    file = write(tmp_path, *(entry(source, image) for image in chosen))
    tripleo.upload_files([file], conf, multi_arch=True)
    for image in chosen:
        tag = root / "v2" / image.repository.value / ".tags" / str(image.tag)
        assert tag.resolve().name == str(image.digest)


@pytest.mark.slow
def test_an_image_by_digest_keeps_it(source: str, conf: Any, root: Path, tmp_path: Path) -> None:
    plain, index = by_name("base"), by_name("multi/oci")
    tagged = entry(source, f"{plain.repository}:7.0@{plain.digest}")
    untagged = entry(source, f"{index.repository}@{index.digest}")
    tripleo.upload_files([write(tmp_path, tagged, untagged)], conf)
    assert trees.tags(root, "base") == ["7.0"]
    assert trees.tags(root, "multi/oci") == []
    for part in (plain, *index.walk()):
        assert manifest_file(root, part).read_bytes() == part.manifest.content


@pytest.mark.slow
def test_a_name_with_a_port_and_no_tag_is_latest(
    source: str, conf: Any, root: Path, tmp_path: Path
) -> None:
    registries.push(source, [images.image("untagged", "latest", [images.layer({"a": b"a"})])])
    tripleo.upload_files([write(tmp_path, entry(source, "untagged"))], conf)
    assert trees.tags(root, "untagged") == ["latest"]


@pytest.mark.slow
def test_namespace_of_the_destination_and_appended_tag(
    source: str, conf: Any, root: Path, tmp_path: Path
) -> None:
    more = {"push_destination": f"{SERVED_AT}/site/a/", "modify_append_tag": "-mod"}
    tripleo.upload_files([write(tmp_path, entry(source, by_name("base")) | more)], conf)
    assert trees.tags(root, "site/a/base") == ["1.0-mod"]


@pytest.mark.slow
def test_pull_source(source: str, conf: Any, root: Path, tmp_path: Path) -> None:
    short = {"imagename": "nova-api:wallaby", "pull_source": f"{source}/openstack/"}
    file = write(tmp_path, {**short, "push_destination": SERVED_AT})
    tripleo.upload_files([file], conf)
    assert trees.catalog(root) == ["openstack/nova-api"]


@pytest.mark.slow
def test_each_entry_goes_where_it_says(source: str, conf: Any, root: Path, tmp_path: Path) -> None:
    """tripleo-common gives all of a file's tasks to the uploader of the last entry."""
    with registries.docker_registry(tmp_path) as target:
        folder = tmp_path / "files"
        folder.mkdir()
        ours = entry(source, by_name("base"), uploader="local-export")
        default = entry(source, by_name("edge/oci"))
        hosts = entry(source, by_name("openstack/plain"), uploader="python")
        hosts["push_destination"] = target
        tripleo.upload_files([write(folder, ours, default, hosts)], conf)
        catalog = image_uploader.requests.get(f"http://{target}/v2/_catalog", timeout=30).json()
    assert trees.catalog(root) == ["base", "edge/oci"]
    assert catalog == {"repositories": ["openstack/plain"]}


@pytest.mark.slow
def test_sections_of_two_files(source: str, conf: Any, root: Path, tmp_path: Path) -> None:
    """tripleo-common reads neither where each file has just one of them."""
    first = write(tmp_path, entry(source, by_name("base")), section="uploads")
    second = write(tmp_path, entry(source, by_name("edge/oci")))
    tripleo.upload_files([first, second], conf)
    assert trees.catalog(root) == ["base", "edge/oci"]


@pytest.mark.slow
def test_upload_delete_upload_in_one_process(
    source: str, manager: Any, driver: LocalExportDriver, root: Path, tmp_path: Path
) -> None:
    """Defect 18: tripleo-common remembers paths of layers that are gone."""
    manager.config_files = [write(tmp_path, entry(source, by_name("base"), uploader="tree"))]
    uploader = tripleo.register(manager, driver, "tree")
    for _ in range(2):
        manager.upload()
        assert trees.catalog(root) == ["base"]
        uploader.delete(f"{SERVED_AT}/base:1.0")
        assert trees.catalog(root) == []
    with pytest.raises(exception.ImageNotFoundException, match=r"base:1\.0"):
        uploader.delete(f"{SERVED_AT}/base:1.0")


@pytest.mark.slow
def test_any_driver_will_do(source: str, manager: Any, tmp_path: Path) -> None:
    driver = MemoryDriver(str(tmp_path))
    manager.config_files = [
        write(tmp_path, *(entry(source, image, uploader="memory") for image in corpus()))
    ]
    tripleo.register(manager, driver, "memory")
    manager.upload()
    assert {name.value: [*map(str, r.tags)] for name, r in driver.repositories.items()} == {
        image.repository.value: [str(image.tag)] for image in corpus()
    }


@pytest.mark.slow
def test_schema_1(source: str, conf: Any, root: Path, tmp_path: Path) -> None:
    """By tag and by digest; the digest of a signed one is that of its payload."""
    image = by_name("base")
    url = f"http://{source}/v2/{image.repository}/manifests/{image.tag}"
    answer = image_uploader.requests.get(
        url, headers={"Accept": media_types.DOCKER_SCHEMA1_SIGNED}, timeout=30
    )
    if answer.headers["Content-Type"] != media_types.DOCKER_SCHEMA1_SIGNED:
        pytest.fail(f"no schema 1 from {url}")
    registry = registries.TamperedRegistry([image])
    found = manifest.Manifest.parse(answer.content)
    canonical = answer.headers["Docker-Content-Digest"]
    registry.manifests["base", "signed"] = found
    registry.manifests["base", canonical] = found
    with web_server.serving(registry) as address:
        by_digest = entry(address, f"base:by-digest@{canonical}")
        tripleo.upload_files([write(tmp_path, entry(address, "base:signed"), by_digest)], conf)
    assert trees.tags(root, "base") == ["by-digest", "signed"]
    folder = (root / "v2" / "base" / ".tags" / "signed").resolve()
    assert (folder / "index.json").read_bytes() == answer.content
    assert not trees.problems(root)


def test_the_observer_hears_of_every_image(source: str, conf: Any, tmp_path: Path) -> None:
    heard: dict[str, tuple[str, str | None]] = {}
    lock = threading.Lock()

    def observer(record: ImageRecord) -> None:
        with lock:
            heard[record.source] = record.status, record.why

    file = write(tmp_path, entry(source, by_name("base")), entry(source, "absent:1.0"))
    with pytest.raises(exception.ImageNotFoundException, match=r"absent:1\.0.*not found"):
        tripleo.upload_files([file], conf, observer=observer)
    assert heard[f"{source}/base:1.0"] == (Status.COPIED, None)
    status, why = heard[f"{source}/absent:1.0"]
    assert status == Status.FAILED
    assert why and "not found" in why


def test_of_tripleo_commons_own_uploader_nobody_knows_which_image_failed(
    source: str, conf: Any, tmp_path: Path
) -> None:
    """So none of them is reported as copied."""
    names = ("absent:1.0", "gone:1.0")
    items = (entry(source, name, uploader="python", push_destination=source) for name in names)
    journal = tripleo.Journal()
    with pytest.raises(exception.ImageNotFoundException):
        tripleo.upload_files([write(tmp_path, *items)], conf, journal=journal)
    assert [(record.uploader, record.status) for record in journal.images] == [
        ("python", Status.FAILED)
    ] * 2
    assert str(journal.images[0].why).startswith("one of 2 images failed, which is not known: ")


@pytest.mark.slow
def test_one_failure_does_not_keep_the_others_back(
    source: str, conf: Any, root: Path, tmp_path: Path
) -> None:
    file = write(
        tmp_path,
        *(entry(source, name) for name in ("absent:1.0", "gone:2.0")),
        *(entry(source, image) for image in corpus()),
    )
    with pytest.raises(exception.ImageUploaderException, match=r"2 of 9 images failed: .*;"):
        tripleo.upload_files([file], conf)
    assert len(trees.catalog(root)) == len(corpus())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- [a list]", "image 1 must be a name, or a mapping"),
        ("- {name: x}", "image 1 must be a name, or a mapping"),
        ("text: 1", "neither container_images nor uploads"),
        ("# nothing", "lists no image"),
        ("{", "is not yaml"),
        ("{}", "neither container_images nor uploads"),
        (b"\xff\xfe\xff", "cannot read"),
    ],
)
def test_files_that_say_nothing(
    conf: cfg.ConfigOpts, tmp_path: Path, text: str | bytes, reason: str
) -> None:
    path = tmp_path / "images.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(errors.ConfigurationError, match=reason) as raised:
        tripleo.upload_files([str(path)], conf)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("{source}/ns/../../etc:1.0", "repository name"),
        ("{source}/ns/img:..%2f", "not a tag"),
        ("{source}/ns/img@sha256:../../x", "digest"),
        ("{source}/a/blobs:1.0", "reserves"),
    ],
)
def test_names_that_cannot_be(
    source: str, conf: Any, root: Path, tmp_path: Path, name: str, reason: str
) -> None:
    item = {"imagename": name.format(source=source), "push_destination": SERVED_AT}
    with pytest.raises(exception.ImageUploaderException, match=reason):
        tripleo.upload_files([write(tmp_path, item)], conf)


def test_an_uploader_that_is_not_there(conf: Any, tmp_path: Path) -> None:
    item = entry("127.0.0.1:1", "base:1.0", uploader="nowhere")
    with pytest.raises(exception.ImageUploaderException, match=r"'nowhere'.*local-export, python"):
        tripleo.upload_files([write(tmp_path, item)], conf)


def test_tags_the_tree_cannot_serve_are_refused(
    source: str, conf: Any, root: Path, tmp_path: Path
) -> None:
    """Defect 26: such an image uploads "ok" and is 404 under the production vhost."""
    registries.push(source, [images.image("odd", "a.json", [images.layer({"a": b"a"})])])
    with pytest.raises(exception.ImageUploaderException, match=r"a\.json"):
        tripleo.upload_files([write(tmp_path, entry(source, "odd:a.json"))], conf)
    assert trees.catalog(root) == []


@pytest.mark.slow
def test_a_zstd_layer_stays_what_it_was(source: str, conf: Any, root: Path, tmp_path: Path) -> None:
    """Defect 26: tripleo-common puts it into a Docker manifest, which no client takes."""
    media_type = "application/vnd.oci.image.layer.v1.tar+zstd"
    # A frame of no content (RFC 8878): all that matters here is whose bytes these are.
    layer = images.Blob(bytes.fromhex("28b52ffd2000010000"), media_type, "sha256:" + "0" * 64)
    image = images.image("zstd", "1.0", [layer], oci=True)
    registries.push(source, [image])
    tripleo.upload_files([write(tmp_path, entry(source, image))], conf)
    assert manifest_file(root, image).read_bytes() == image.manifest.content
    assert (root / "v2" / "zstd" / "blobs" / str(layer.digest)).read_bytes() == layer.content


def test_python_stays_the_hosts_own(manager: Any, driver: LocalExportDriver) -> None:
    tripleo.register(manager, driver)
    assert type(manager.uploader("python")) is image_uploader.PythonImageUploader


def test_install_reaches_managers_made_elsewhere(
    source: str, conf: Any, root: Path, tmp_path: Path
) -> None:
    tripleo.install(conf)
    file = write(tmp_path, entry(source, by_name("base"), uploader="local-export"))
    image_uploader.ImageUploadManager([file], lock=threadinglock.ThreadingLock()).upload()
    assert trees.catalog(root) == ["base"]
    tripleo.uninstall()
    assert set(image_uploader.ImageUploadManager([]).uploaders) == {"python"}


def test_credentials_and_mirrors_reach_ours(conf: Any) -> None:
    tripleo.install(conf)
    credentials = {"registry.example.com": {"user": "secret"}}
    manager = image_uploader.ImageUploadManager(
        [], registry_credentials=credentials, mirrors={"docker.io": "http://mirror.example.com/"}
    )
    uploader = manager.uploader("local-export")
    assert uploader.credentials_for_registry("registry.example.com") == ("user", "secret")
    assert uploader.mirrors["docker.io"] == "http://mirror.example.com/"


@pytest.mark.slow
def test_json_of_the_tree_is_what_was_pushed(
    source: str, conf: Any, root: Path, tmp_path: Path
) -> None:
    image = by_name("openstack/plain")
    tripleo.upload_files([write(tmp_path, entry(source, image))], conf)
    fields = json.loads(manifest_file(root, image).read_bytes())
    blob = root / "v2" / image.repository.value / "blobs" / fields["layers"][0]["digest"]
    assert blob.stat().st_size == fields["layers"][0]["size"]
    assert Tag("wallaby") == image.tag
