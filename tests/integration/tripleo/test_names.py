# SPDX-License-Identifier: Apache-2.0
"""What images are called in the target, and what the keys that say so may be."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from oslo_config import cfg
from tripleo_common.image import exception

from image_uploader_plugins import errors, tripleo
from image_uploader_plugins.copying.job import Job
from image_uploader_plugins.copying.run_options import CopyOptions
from image_uploader_plugins.demonstration import SERVED_AT
from image_uploader_plugins.runs.records import Status
from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.images import corpus
from image_uploader_plugins.tripleo.manager import task_of
from tests.support import trees
from tests.support.registry import TamperedRegistry

pytestmark = pytest.mark.slow

MARK = "Zq7sEcReT"
OTHER = images.image("base", "1.0", [images.layer({"other": b"other"})])
ELSEWHERE = images.image("openstack/nova-api", "wallaby", [images.layer({"x": b"x"})])


@pytest.fixture
def second() -> Iterator[str]:
    """Another registry: one path at both, and what is the same at both."""
    same = next(image for image in corpus() if image.repository.value == "openstack/plain")
    with web_server.serving(TamperedRegistry([OTHER, ELSEWHERE, same])) as address:
        yield address


def entry(namespace: str, image: str, tag: str, kind: str = "ceph", **more: Any) -> dict[str, Any]:
    """An entry of ContainerImagePrepare for one image, as Ceph's daemon or another of its."""
    names = {f"{kind}_namespace": namespace, f"{kind}_image": image, f"{kind}_tag": tag}
    found = {"push_destination": SERVED_AT, "includes": [f"/{image}:"], "set": names}
    return {**found, **more}


def prepare(
    conf: cfg.ConfigOpts, *entries: dict[str, Any], options: CopyOptions | None = None, **more: Any
) -> dict[str, Any]:
    given = {"parameter_defaults": {"ContainerImagePrepare": list(entries), **more}}
    return tripleo.prepare(given, conf=conf, options=options)[0]


def listed(folder: Path, *entries: Any) -> list[str]:
    path = folder / "images.yaml"
    path.write_text(yaml.safe_dump({"container_images": list(entries)}))
    return [str(path)]


def item(source: str, name: str, **more: Any) -> dict[str, Any]:
    return {"imagename": f"{source}/{name}", "push_destination": SERVED_AT, **more}


def digest_of(root: Path, name: str, tag: str) -> str:
    return (root / "v2" / name / ".tags" / tag).resolve().name


def full(address: str) -> str:
    return address.replace(":", "_")


# -- full names


@pytest.mark.slow
@pytest.mark.parametrize("way", ["option", "key"])
def test_full_names_with_prepare(
    source: str, second: str, conf: cfg.ConfigOpts, root: Path, way: str
) -> None:
    """Parameters name what the tree has; tripleo-common's would be one name for both."""
    key = {"names": "full"} if way == "key" else {}
    parameters = prepare(
        conf,
        entry(source, "base", "1.0", **key),
        entry(second, "base", "1.0", "ceph_prometheus", **key),
        options=CopyOptions(full_names=way == "option"),
    )
    found = {
        "ContainerCephDaemonImage": f"{full(source)}/base",
        "PrometheusContainerImage": f"{full(second)}/base",
    }
    for name, repository in found.items():
        assert parameters[name] == f"{SERVED_AT}/{repository}:1.0"
        assert trees.tags(root, repository) == ["1.0"]
    assert digest_of(root, f"{full(second)}/base", "1.0") == str(OTHER.digest)
    assert trees.catalog(root) == sorted(found.values())


def test_full_names_of_one_entry_below_a_namespace(
    source: str, conf: cfg.ConfigOpts, root: Path
) -> None:
    destination = f"{SERVED_AT}/site/a/"
    parameters = prepare(
        conf,
        entry(source, "base", "1.0", names="full", push_destination=destination),
        entry(f"{source}/openstack", "plain", "wallaby", "ceph_grafana", names="path"),
    )
    assert trees.catalog(root) == ["openstack/plain", f"site/a/{full(source)}/base"]
    named = f"{SERVED_AT}/site/a/{full(source)}/base:1.0"
    assert parameters["ContainerCephDaemonImage"] == named


def test_full_names_of_a_modified_image(source: str, conf: cfg.ConfigOpts) -> None:
    given = entry(source, "base", "1.0", modify_role="r", modify_append_tag="-mod", names="full")
    defaults = {"parameter_defaults": {"ContainerImagePrepare": [given]}}
    parameters, _ = tripleo.prepare(defaults, conf=conf, dry_run=True)
    named = f"{SERVED_AT}/{full(source)}/base:1.0-mod"
    assert parameters["ContainerCephDaemonImage"] == named


def test_full_names_in_a_list(
    source: str, second: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path
) -> None:
    """An entry says something else than the option, either way."""
    files = listed(
        tmp_path,
        item(source, "base:1.0", names="full"),
        item(second, "base:1.0"),
        item(source, "openstack/plain:wallaby", names="path"),
    )
    tripleo.upload_files(files, conf)
    assert trees.catalog(root) == [f"{full(source)}/base", "base", "openstack/plain"]
    tripleo.upload_files(files, conf, options=CopyOptions(full_names=True))
    assert f"{full(second)}/base" in trees.catalog(root)
    assert f"{full(source)}/openstack/plain" not in trees.catalog(root)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("docker.io/alpine:3", "docker.io/library/alpine"),
        ("Quay.IO:5000/ns/x:1", "quay.io_5000/ns/x"),
        ("[::1]:5000/x:1", "0000-0000-0000-0000-0000-0000-0000-0001_5000/x"),
        ("[fd00::a]/x:1", "fd00-0000-0000-0000-0000-0000-0000-000a/x"),
    ],
)
def test_full_names(text: str, name: str) -> None:
    task = task_of({"imagename": text, "push_destination": SERVED_AT})
    assert Job.of(task, full_names=True).target.value == name


@pytest.mark.parametrize("value", ["Full", "", None, True, ["full"], "registry"])
def test_names_that_nobody_knows(
    source: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path, value: Any
) -> None:
    good = entry(source, "base", "1.0")
    with pytest.raises(errors.ConfigurationError, match=r"entry 2: names must be full or path, no"):
        prepare(conf, good, good | {"names": value})
    files = listed(tmp_path, f"{source}/base:1.0", item(source, "base:1.0", names=value))
    with pytest.raises(errors.ConfigurationError, match=r"image 2: names must be full or path, no"):
        tripleo.upload_files(files, conf)
    assert not root.exists()


def test_full_names_that_cannot_be(
    source: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path
) -> None:
    """tripleo-common's own push has none, and what is not copied is called as it is."""
    theirs = entry(source, "base", "1.0", uploader="python", names="full")
    with pytest.raises(errors.ConfigurationError, match=r"entry 2: .*python cannot give full"):
        prepare(conf, entry(source, "base", "1.0"), theirs)
    del theirs["names"]
    with pytest.raises(errors.ConfigurationError, match=r"entry 1: .*python cannot give full"):
        prepare(conf, theirs, options=CopyOptions(full_names=True))
    unsent = entry(source, "base", "1.0", names="full", push_destination=False)
    with pytest.raises(errors.ConfigurationError, match=r"entry 1: has 'names' but no push_dest"):
        prepare(conf, unsent)
    files = listed(tmp_path, item(source, "base:1.0", uploader="python"))
    with pytest.raises(errors.ConfigurationError, match=r"image 1: .*python cannot give full"):
        tripleo.upload_files(files, conf, options=CopyOptions(full_names=True))
    assert not root.exists()


# -- parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        ("docker.io", "library/alpine"),
        ("index.docker.io", "library/alpine"),
        ("docker.io/library", "library/alpine"),
        ("prom", "prom/alpine"),
        ("Quay.IO/ns", "ns/alpine"),
    ],
)
def test_parameters_name_what_the_tree_has(
    registry: TamperedRegistry,
    source: str,
    conf: cfg.ConfigOpts,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    namespace: str,
    name: str,
) -> None:
    registry.add(images.image(name, "3", [images.layer({"a": b"a"})]))
    monkeypatch.setattr(
        "image_uploader_plugins.sources.registries.Registry._find_base",
        lambda self, check: f"http://{source}/v2",
    )
    parameters = prepare(conf, entry(namespace, "alpine", "3", includes=["alpine:3"]))
    assert parameters["ContainerCephDaemonImage"] == f"{SERVED_AT}/{name}:3"
    assert trees.tags(root, name) == ["3"]


def test_parameters_of_what_is_not_copied_stay(source: str, conf: cfg.ConfigOpts) -> None:
    parameters = prepare(conf, entry(source, "base", "1.0", push_destination=None))
    assert parameters["ContainerCephDaemonImage"] == f"{source}/base:1.0"


def test_pull_source(source: str, conf: cfg.ConfigOpts, root: Path) -> None:
    given = entry("openstack", "plain", "wallaby", pull_source=f"{source}/", includes=["/plain:"])
    parameters = prepare(conf, given)
    assert parameters["ContainerCephDaemonImage"] == f"{SERVED_AT}/openstack/plain:wallaby"
    assert trees.tags(root, "openstack/plain") == ["wallaby"]


def test_one_bad_image_does_not_stop_the_others(
    source: str, conf: cfg.ConfigOpts, root: Path
) -> None:
    """Nor is what is written there asked for by anybody, or repeated."""
    journal = tripleo.Journal()
    given = {
        "ContainerImagePrepare": [
            entry(f"me:{MARK}@{source}", "base", "1.0"),
            entry(f"http://{source}", "base", "1.0"),
            entry(source, "absent", "1.0"),
            entry(source, "Base", "1.0"),
            entry(source, "base", "1.0", modify_role="r", modify_append_tag=" mod"),
            entry(f"{source}/openstack", "plain", "wallaby"),
        ]
    }
    with pytest.raises(exception.ImageUploaderException, match="5 of 6 images failed") as raised:
        tripleo.prepare({"parameter_defaults": given}, conf=conf, journal=journal)
    assert MARK not in str(raised.value)
    assert "do not belong into a name" in str(raised.value)
    assert "have no scheme" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
    assert trees.catalog(root) == ["openstack/plain"]
    assert sorted(image.status for image in journal.images) == [Status.COPIED] + [Status.FAILED] * 5


def test_one_bad_name_in_a_list(
    source: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "images.txt"
    lines = [f"me:{MARK}@{source}/base:1.0", "# why", f"{source}/base:1.0  # because", "a b:c"]
    path.write_text("\r\n".join([*lines, f"docker://{source}/edge/oci:1.0", "[::1/x:1", "a//b"]))
    with pytest.raises(exception.ImageUploaderException, match="4 of 6 images failed") as raised:
        tripleo.upload_files([str(path)], conf)
    assert MARK not in str(raised.value)
    assert trees.catalog(root) == ["base", "edge/oci"]


# -- two images for one name


def test_two_images_of_two_entries(
    source: str, second: str, conf: cfg.ConfigOpts, root: Path
) -> None:
    theirs = entry(source, "base", "1.0")
    with pytest.raises(exception.ImageUploaderException) as raised:
        prepare(
            conf,
            entry(f"{source}/openstack", "plain", "wallaby"),
            theirs,
            entry(second, "base", "1.0"),
        )
    told = str(raised.value)
    assert told.startswith("base:1.0 would be ")
    for part in (f"{source}/base:1.0", f"{second}/base:1.0", str(OTHER.digest), "--full-names"):
        assert part in told
    assert len(told.splitlines()) == 1
    assert not root.exists()


def test_a_dry_run_sees_two_images_and_tells_of_none(
    source: str, second: str, conf: cfg.ConfigOpts, root: Path
) -> None:
    journal = tripleo.Journal()

    def rehearse(*entries: dict[str, Any]) -> dict[str, Any]:
        given = {"parameter_defaults": {"ContainerImagePrepare": list(entries)}}
        return tripleo.prepare(given, conf=conf, dry_run=True, journal=journal)[0]

    good = entry(source, "base", "1.0")
    assert rehearse(good)["ContainerCephDaemonImage"] == f"{SERVED_AT}/base:1.0"
    with pytest.raises(exception.ImageUploaderException, match=r"base:1\.0 would be"):
        rehearse(good, entry(second, "base", "1.0"))
    with pytest.raises(exception.ImageUploaderException, match="not a repository name"):
        rehearse(good, entry(source, "Base", "1.0"))
    assert journal.images == ()
    assert not root.exists()


def test_two_images_of_a_list(
    source: str, second: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path
) -> None:
    journal = tripleo.Journal()
    files = listed(
        tmp_path,
        item(source, "base:1.0"),
        item(second, "base:1.0"),
        item(source, "openstack/nova-api:wallaby"),
        item(second, "openstack/nova-api:wallaby"),
        item(source, "edge/oci:1.0"),
    )
    with pytest.raises(exception.ImageUploaderException, match=r"base:1\.0 would.*nova-api:wall"):
        tripleo.upload_files(files, conf, journal=journal)
    assert [image.status for image in journal.images] == [Status.FAILED] * 4 + [Status.SKIPPED]
    assert not root.exists()


def test_the_same_image_of_two_registries(
    source: str, second: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path
) -> None:
    files = listed(
        tmp_path,
        item(source, "openstack/plain:wallaby"),
        item(second, "openstack/plain:wallaby"),
        item(second, "base:1.0", push_destination=f"{SERVED_AT}/second"),
        item(source, "base:1.0"),
    )
    tripleo.upload_files(files, conf)
    assert trees.catalog(root) == ["base", "openstack/plain", "second/base"]


def test_an_image_that_is_not_there_is_no_second_one(
    source: str, second: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path
) -> None:
    files = listed(tmp_path, item(source, "edge/oci:1.0"), item(second, "edge/oci:1.0"))
    with pytest.raises(exception.ImageNotFoundException, match="not found"):
        tripleo.upload_files(files, conf)
    assert trees.catalog(root) == ["edge/oci"]


def test_one_image_with_and_without_its_platforms(
    source: str, conf: cfg.ConfigOpts, root: Path
) -> None:
    """The later of two would win, or the faster."""
    given = entry(f"{source}/multi", "oci", "1.0")
    with pytest.raises(exception.ImageUploaderException, match=r"multi/oci:1\.0 would be"):
        prepare(conf, given | {"multi_arch": True}, given | {"multi_arch": "false"})
    assert not root.exists()
    prepare(conf, given | {"multi_arch": True}, given | {"multi_arch": "True"})
    assert trees.tags(root, "multi/oci") == ["1.0"]


def test_the_unmodified_image_has_a_name_too(
    source: str, second: str, conf: cfg.ConfigOpts, root: Path
) -> None:
    modified = entry(source, "base", "1.0", modify_role="r", modify_append_tag="-mod")
    with pytest.raises(exception.ImageUploaderException, match=r"^base:1\.0 would be"):
        prepare(conf, entry(second, "base", "1.0"), modified)
    with pytest.raises(exception.ImageUploaderException, match=r"^base:1\.0-mod .*modified by s"):
        prepare(conf, modified, modified | {"modify_role": "s"})
    assert not root.exists()


# -- keys


@pytest.mark.slow
@pytest.mark.parametrize(
    ("destination", "served_at"),
    [
        ("localhost:8787/", "localhost:8787"),
        (" localhost:8787// ", "localhost:8787"),
        ("LOCALHOST:8787/site//a/", "localhost:8787/site/a"),
        ("[::1]:8787", "[::1]:8787"),
        ("true", "192.0.2.7:8787"),
        (True, "192.0.2.7:8787"),
    ],
)
def test_destinations_that_are_mended(
    source: str, conf: cfg.ConfigOpts, root: Path, destination: Any, served_at: str
) -> None:
    given = entry(source, "base", "1.0", push_destination=destination)
    parameters = prepare(conf, given, LocalContainerRegistry="192.0.2.7")
    assert parameters["ContainerCephDaemonImage"] == f"{served_at}/base:1.0"
    namespace = served_at.partition("/")[2]
    assert trees.catalog(root) == [f"{namespace}/base" if namespace else "base"]


@pytest.mark.parametrize(
    "destination",
    [
        *("http://localhost:8787", "docker://localhost:8787/", f"me:{MARK}@localhost:8787"),
        *("localhost:8787/Site", "localhost:8787/a b", "local host:8787", "registry", "/site"),
        *("localhost:port", "localhost:8787/v2/tags", 8787, ["localhost:8787"], {"a": 1}, 1.5),
    ],
)
def test_destinations_that_are_refused(
    source: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path, destination: Any
) -> None:
    good = entry(source, "base", "1.0")
    with pytest.raises(errors.ConfigurationError, match=r"entry 2: push_destination") as raised:
        prepare(conf, good, good | {"push_destination": destination})
    files = listed(
        tmp_path, f"{source}/base:1.0", item(source, "x:1", push_destination=destination)
    )
    with pytest.raises(errors.ConfigurationError, match=r"yaml: image 2: push_dest") as listing:
        tripleo.upload_files(files, conf)
    for told in (str(raised.value), str(listing.value)):
        assert MARK not in told
        assert len(told.splitlines()) == 1
    assert not root.exists()


@pytest.mark.parametrize("key", ["multi_arch", "signatures", "foreign_layers"])
@pytest.mark.parametrize("value", ["maybe", "yes", 1, 0, "", ["true"]])
def test_booleans_that_are_none(
    source: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path, key: str, value: Any
) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"entry 1: {key} must be true or false"):
        prepare(conf, entry(source, "base", "1.0", **{key: value}))
    files = listed(tmp_path, item(source, "base:1.0", **{key: value}))
    with pytest.raises(errors.ConfigurationError, match=f"image 1: {key} must be true or false"):
        tripleo.upload_files(files, conf)
    assert not root.exists()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("pull_source", True, "must be a text, not True"),
        ("tag_from_label", ["version"], "must be a text"),
        ("modify_role", {"name": "r"}, "must be a text"),
        ("modify_append_tag", -1, "must be a text"),
        ("includes", "/base:", "must be a list of texts"),
        ("excludes", [1], "must be a list of texts"),
        ("includes", ["/base:", "["], "unterminated character set"),
        ("modify_only_with_labels", "release", "must be a list of texts"),
    ],
)
def test_keys_that_cannot_be(
    source: str, conf: cfg.ConfigOpts, root: Path, key: str, value: Any, reason: str
) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"entry 2: {key}.*{reason}") as raised:
        prepare(conf, entry(source, "base", "1.0"), entry(source, "base", "1.0") | {key: value})
    assert len(str(raised.value).splitlines()) == 1
    assert not root.exists()


def test_booleans_in_quotes(source: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path) -> None:
    (index,) = (image for image in corpus() if image.repository.value == "multi/oci")
    for value, expected in (("False", index.children[0]), (" true ", index), (None, None)):
        files = listed(tmp_path, item(source, "multi/oci:1.0", multi_arch=value))
        tripleo.upload_files(files, conf, multi_arch=value is None)
        assert digest_of(root, "multi/oci", "1.0") == str((expected or index).digest)


# -- Docker Hub's mirror


@pytest.mark.slow
@pytest.mark.parametrize("form", ["http://{}", "http://{}/", "http://{}/v2/", " http://{}// "])
def test_mirrors(
    registry: TamperedRegistry, source: str, conf: cfg.ConfigOpts, root: Path, form: str
) -> None:
    registry.add(images.image("library/alpine", "3", [images.layer({"a": b"a"})]))
    prepare(conf, entry("docker.io", "alpine", "3"), DockerRegistryMirror=form.format(source))
    assert trees.tags(root, "library/alpine") == ["3"]


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("http://mirror.example.com/", "not asked in the clear"),
        (f"https://me:{MARK}@mirror.example.com", "do not belong into it"),
        ("ftp://mirror.example.com", "no URL of a registry"),
        ("https://", "no URL of a registry"),
        ("https://mirror.example.com/?ns=x", "no URL of a registry"),
        ("https://a b/", "no URL of a registry"),
        ("https://[::1", "no URL of a registry"),
        (["https://mirror.example.com"], "must be a URL"),
        (True, "must be a URL"),
    ],
)
def test_mirrors_that_are_refused(
    source: str, conf: cfg.ConfigOpts, root: Path, mirror: Any, reason: str
) -> None:
    with pytest.raises(errors.ConfigurationError, match=f"^DockerRegistryMirror.*{reason}") as e:
        prepare(conf, entry(source, "base", "1.0"), DockerRegistryMirror=mirror)
    assert MARK not in str(e.value)
    assert len(str(e.value).splitlines()) == 1
    assert not root.exists()


def test_a_mirror_in_the_clear_is_one_that_was_named(
    source: str, conf: cfg.ConfigOpts, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    mirror: dict[str, Any] = {"DockerRegistryMirror": "http://mirror.example.com"}
    named: dict[str, Any] = {"DockerInsecureRegistryAddress": ["mirror.example.com"]}
    prepare(conf, entry(source, "base", "1.0"), **mirror, **named)
    conf.set_override("insecure_registries", ["mirror.example.com"], group="image_uploader")
    prepare(conf, entry(source, "base", "1.0"), **mirror)
    assert trees.catalog(root) == ["base"]
