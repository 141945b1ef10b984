# SPDX-License-Identifier: Apache-2.0
"""From a label to a tag: the one that it says, or an error, and never another one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from oslo_config import cfg
from tripleo_common.image import exception, image_uploader

from image_uploader_plugins import demonstration, manifest, media_types, tripleo
from image_uploader_plugins.manifest import Manifest
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import Blob, Image
from image_uploader_plugins.tripleo import manager as managers
from tests.support import odd_registry
from tests.support.odd_registry import Asked, OddRegistry, Reply, text

pytestmark = pytest.mark.slow

LAYER = images.layer({"a": b"a"})
LABELS = {"version": "17", "release": "3", "org.example.version": "1.2"}

Discover = Callable[..., dict[str, str]]


def labelled(tag: str | None, labels: Mapping[str, Any] = LABELS, **more: Any) -> Image:
    return images.image("ns/app", tag, [LAYER], labels=labels, **more)


@pytest.fixture
def registry() -> OddRegistry:
    return OddRegistry([labelled("latest")])


@pytest.fixture
def address(registry: OddRegistry) -> Iterator[str]:
    with odd_registry.serving(registry) as address:
        yield address


@pytest.fixture
def python(conf: cfg.ConfigOpts) -> Any:
    """The uploader that tripleo-common asks for labels."""
    manager = image_uploader.ImageUploadManager([])
    managers.add_installed(manager, conf)
    return manager.uploader("python")


@pytest.fixture
def discover(python: Any, address: str) -> Discover:
    def discover(label: str = "version", *names: str, default_tag: bool = True) -> dict[str, str]:
        asked = [f"{address}/{name}" for name in names or ("ns/app:latest",)]
        found = python.discover_image_tags(asked, label, default_tag)
        return {name.removeprefix(f"{address}/"): tag for name, tag in found.items()}

    return discover


@pytest.mark.parametrize(
    ("label", "tag"),
    [
        ("version", "17"),
        ("{version}", "17"),
        ("{version}-{release}", "17-3"),
        ("org.example.version", "1.2"),
        ("{org.example.version}-{release:0>4}", "1.2-0003"),
    ],
)
@pytest.mark.parametrize("default_tag", [True, False])
def test_the_tag_of_the_labels(
    registry: OddRegistry, discover: Discover, label: str, tag: str, default_tag: bool
) -> None:
    registry.add(labelled(tag))
    assert discover(label, default_tag=default_tag) == {"ns/app": tag}
    assert registry.paths("/manifests/")[-1] == f"/v2/ns/app/manifests/{tag}"


def pages(asked: Asked) -> Reply | None:
    """Lists of tags that lack, mislead, lead elsewhere, and fail."""
    if "/tags/list" not in asked.path:
        return None
    if "last" in asked.query:
        return Reply(500)
    links = ("http://192.0.2.1/v2/ns/app/tags/list", "/v2/ns/app/tags/list?last=old")
    return text(
        {"name": "ns/app", "tags": ["older", "old"]},
        200,
        *(("Link", f'<{link}>; rel="next"') for link in links),
    )


@pytest.mark.parametrize(
    "lists",
    [
        pages,
        lambda asked: text({"tags": []}) if "/tags/list" in asked.path else None,
        lambda asked: text({"tags": None}) if "/tags/list" in asked.path else None,
        lambda asked: Reply(403) if "/tags/list" in asked.path else None,
    ],
    ids=["pages", "empty", "null", "denied"],
)
def test_no_list_of_tags_counts(
    registry: OddRegistry, discover: Discover, lists: Callable[[Asked], Reply | None]
) -> None:
    """A tag is asked for: a list has but some of them, and its last is any version."""
    for tag in ("older", "old", "17"):
        registry.add(labelled(tag))
    registry.hook = lists
    assert discover() == {"ns/app": "17"}
    assert not registry.paths("/tags/")


def test_a_tag_that_is_not_there_is_an_error_and_no_other(
    registry: OddRegistry, discover: Discover
) -> None:
    for tag in ("16", "170", "old"):
        registry.add(labelled(tag))
    with pytest.raises(
        exception.ImageNotFoundException, match=r"ns/app:latest.*\(version\) says 17.*not found"
    ):
        discover()


def test_an_image_that_is_not_there_is_an_error(registry: OddRegistry, discover: Discover) -> None:
    """tripleo-common takes the last tag of a list instead, where the tag is the default one."""
    registry.add(labelled("old"))
    with pytest.raises(exception.ImageNotFoundException, match="current-tripleo"):
        discover("version", "ns/app:current-tripleo")


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
@pytest.mark.parametrize("what", ["manifests/latest", "manifests/17", "blobs/"])
def test_what_a_registry_refuses_is_an_error(
    registry: OddRegistry,
    discover: Discover,
    conf: cfg.ConfigOpts,
    status: int,
    what: str,
) -> None:
    conf.set_override("longest_pause", 0, group="image_uploader")
    registry.add(labelled("17"))
    registry.add(labelled("old", {"version": "old"}))
    registry.hook = lambda asked: Reply(status) if what in asked.path else None
    with pytest.raises(Exception, match="ns/app:latest") as raised:
        discover()
    assert isinstance(
        raised.value,
        exception.ImageUploaderException
        | exception.ImageNotFoundException
        | image_uploader.requests.exceptions.HTTPError,
    )


@pytest.mark.parametrize("label", ["build", "{version}-{build}", "{org.example.build}"])
def test_without_the_label_it_is_the_tag_that_was_asked_for(
    registry: OddRegistry, discover: Discover, caplog: pytest.LogCaptureFixture, label: str
) -> None:
    registry.add(labelled("17"))
    assert discover(label) == {"ns/app": "latest"}
    assert f"it lacks a label of '{label}' (it has org.example.version, release, " in caplog.text
    assert "is prepared as latest" in caplog.text


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("", "no label is given"),
        (None, "no label is given"),
        ("{}", "names no label"),
        ("{version", "expected '}'"),
        ("version}", "Single '}'"),
        ("{version:x}", "Unknown format code"),
        ("{version!q}", "conversion"),
    ],
)
def test_templates_that_are_none(
    registry: OddRegistry, discover: Discover, label: Any, reason: str
) -> None:
    with pytest.raises(exception.ImageUploaderException, match=reason):
        discover(label)


@pytest.mark.parametrize("value", ["", "a b", "../x", "a" * 129, "17\n"])
def test_labels_that_are_no_tag(registry: OddRegistry, discover: Discover, value: str) -> None:
    registry.add(labelled("latest", {"version": value}))
    with pytest.raises(exception.ImageUploaderException, match=r"ns/app:latest: not a tag"):
        discover()


@pytest.mark.parametrize("labels", [{"version": 17}, {"version": None}, ["version"], "version"])
def test_labels_that_nobody_can_read(
    registry: OddRegistry, discover: Discover, labels: Any
) -> None:
    """What is taken for no label would be prepared as something else."""
    config = {"architecture": "amd64", "os": "linux", "config": {"Labels": labels}}
    registry.add(with_config(json.dumps(config).encode()))
    with pytest.raises(exception.ImageUploaderException, match="no mapping of texts"):
        discover()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[]", "its configuration is not a JSON object"),
        (b'{"config": {"Labels": {"version": "1", "version": "2"}}}', "stands twice"),
        (b" " * (manifest.SIZE_LIMIT + 1), "its configuration has more than"),
    ],
)
def test_configurations_that_are_none(
    registry: OddRegistry, discover: Discover, content: bytes, reason: str
) -> None:
    registry.add(with_config(content))
    with pytest.raises(exception.ImageUploaderException, match=reason):
        discover()


def with_config(content: bytes) -> Image:
    found = labelled("latest")
    config = Blob(content, media_types.OCI_CONFIG)
    fields = json.loads(found.manifest.content) | {"config": config.descriptor()}
    parsed = Manifest.parse(json.dumps(fields).encode())
    return Image(found.repository, found.tag, parsed, {config.digest: content})


def test_a_label_is_read_from_the_image_that_clients_get(
    registry: OddRegistry, discover: Discover
) -> None:
    """Not from an attestation, nor from what comes first in a list."""
    attestation = labelled(None, {"version": "att"}, oci=True)
    arm = labelled(None, {"version": "arm"}, oci=True, architecture="arm64")
    v3 = labelled(None, {"version": "v3"}, oci=True)
    plain = labelled(None, {"version": "17"}, oci=True)
    entries = [
        attestation.descriptor(
            platform={"architecture": "unknown", "os": "unknown"},
            annotations={"vnd.docker.reference.type": "attestation-manifest"},
        ),
        arm.descriptor(platform={"architecture": "arm64", "os": "linux"}),
        v3.descriptor(platform={"architecture": "amd64", "os": "linux", "variant": "v3"}),
        plain.descriptor(platform={"architecture": "amd64", "os": "linux"}),
    ]
    for tag in ("latest", "17", "arm", "att", "v3"):
        index = images.index(
            "ns/app", tag, [attestation, arm, v3, plain], oci=True, manifests=entries
        )
        registry.add(index)
    assert discover() == {"ns/app": "17"}


def test_a_list_without_an_image_has_no_label(registry: OddRegistry, discover: Discover) -> None:
    registry.add(images.index("ns/app", "latest", [], oci=True))
    with pytest.raises(exception.ImageUploaderException, match="lists no image"):
        discover()


def test_schema_1(registry: OddRegistry, discover: Discover) -> None:
    def old(history: Any) -> Reply:
        content = {"schemaVersion": 1, "fsLayers": [], "history": history}
        return text(content, 200, ("Content-Type", media_types.DOCKER_SCHEMA1))

    configuration = json.dumps({"config": {"Labels": {"version": "17"}}})
    history: Any = [{"v1Compatibility": configuration}]
    registry.add(labelled("17"))
    registry.hook = lambda asked: old(history) if asked.path.endswith("/latest") else None
    assert discover() == {"ns/app": "17"}
    odd: tuple[Any, ...] = ([], None, {}, [1], [{}], [{"v1Compatibility": 1}])
    for found in odd:
        history = found
        with pytest.raises(exception.ImageUploaderException, match="ns/app:latest"):
            discover()


def test_another_image_under_the_labels_tag_is_told(
    registry: OddRegistry, discover: Discover, caplog: pytest.LogCaptureFixture
) -> None:
    registry.add(labelled("17"))
    assert discover() == {"ns/app": "17"}
    assert "is another image" not in caplog.text
    old = labelled("17", {"version": "17", "built": "before"})
    registry.add(old)
    assert discover() == {"ns/app": "17"}
    assert f"17 that its label (version) says is another image: {old.digest}" in caplog.text


def test_a_digest_says_all(registry: OddRegistry, discover: Discover) -> None:
    digest = labelled("latest").digest
    for name in (f"ns/app@{digest}", f"ns/app:latest@{digest}"):
        ((found, tag),) = discover("version", name).items()
        assert f"{found}:{tag}" == name


def test_one_name_with_two_tags(registry: OddRegistry, discover: Discover) -> None:
    """tripleo-common gives the last one's tag to both."""
    registry.add(labelled("17"))
    registry.add(labelled("next", {"version": "18"}))
    registry.add(labelled("18", {"version": "18"}))
    with pytest.raises(exception.ImageUploaderException, match=r"two tags.* 17 and 18"):
        discover("version", "ns/app:latest", "ns/app:next")
    registry.add(labelled("same"))
    assert discover("version", "ns/app:latest", "ns/app:same") == {"ns/app": "17"}


def test_a_single_image(python: Any, registry: OddRegistry, address: str) -> None:
    """As "openstack tripleo container image tag discover" asks."""
    registry.add(labelled("17"))
    name = f"{address}/ns/app"
    assert python.discover_image_tag(f"{name}:latest", "version") == "17"
    assert python.discover_image_tag(name, "version") == "17"
    assert python.discover_image_tag(name, "build", "latest") == "latest"
    with pytest.raises(exception.ImageUploaderException, match="lacks a label of 'build'"):
        python.discover_image_tag(name, "build")
    with pytest.raises(exception.ImageNotFoundException, match="old"):
        python.discover_image_tag(name, "build", "old")
    assert not registry.paths("/tags/")


def test_a_single_images_login(python: Any, registry: OddRegistry, address: str) -> None:
    registry.add(labelled("17"))
    registry.hook = lambda asked: (
        None if asked.authorization else odd_registry.challenge('Basic realm="r"')
    )
    name = f"{address}/ns/app:latest"
    assert python.discover_image_tag(name, "version", username="u", password="p") == "17"  # noqa: S106


def prepared(conf: cfg.ConfigOpts, address: str, **more: Any) -> dict[str, Any]:
    names = {"ceph_namespace": f"{address}/ns", "ceph_image": "app", "ceph_tag": "latest"}
    entry = {
        "push_destination": demonstration.SERVED_AT,
        "includes": ["/ns/app:"],
        "tag_from_label": "version",
        "set": names,
        **more,
    }
    given = {"parameter_defaults": {"ContainerImagePrepare": [entry]}}
    return tripleo.prepare(given, conf=conf, dry_run=True)[0]


def test_images_with_labels_are_modified_under_the_labels_tag(
    registry: OddRegistry, address: str, conf: cfg.ConfigOpts
) -> None:
    """tripleo-common looks for their names of before, and would leave them as they are."""
    registry.add(labelled("17"))
    modified = {"modify_role": "role", "modify_append_tag": "-mod"}
    parameters = prepared(conf, address, modify_only_with_labels=["release"], **modified)
    assert parameters["ContainerCephDaemonImage"] == f"{demonstration.SERVED_AT}/ns/app:17-mod"
    parameters = prepared(conf, address, modify_only_with_labels=["other"], **modified)
    assert parameters["ContainerCephDaemonImage"] == f"{demonstration.SERVED_AT}/ns/app:17"


def test_a_tag_in_set_is_what_it_says(
    registry: OddRegistry, address: str, conf: cfg.ConfigOpts
) -> None:
    registry.add(labelled("17"))
    names = {"ceph_namespace": f"{address}/ns", "ceph_image": "app", "ceph_tag": "latest"}
    parameters = prepared(conf, address, set=names | {"tag": "x"})
    assert parameters["ContainerCephDaemonImage"] == f"{demonstration.SERVED_AT}/ns/app:latest"
