# SPDX-License-Identifier: Apache-2.0
"""ContainerImagePrepare through tripleo-common's own way, and the commands around it."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from oslo_config import cfg

from image_uploader_plugins import errors, tripleo
from image_uploader_plugins.demonstration import SERVED_AT, environment_for
from image_uploader_plugins.testing import images
from image_uploader_plugins.testing.images import corpus
from tests.support import commands, trees
from tests.support.checkout import PROJECT
from tests.support.registry import TamperedRegistry, docker_registry

ETC = PROJECT / "etc"
README = ETC.parent / "README.rst"


def entry(source: str, name: str = "base", **more: Any) -> dict[str, Any]:
    """An entry of ContainerImagePrepare for one image of the corpus."""
    image = next(image for image in corpus() if image.repository.value == name)
    environment = environment_for([image], source)
    found: dict[str, Any] = environment["parameter_defaults"]["ContainerImagePrepare"][0]
    return found | more


def environment(*entries: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    return {"parameter_defaults": {"ContainerImagePrepare": list(entries), **defaults}}


@pytest.fixture
def command(source: str, conf: cfg.ConfigOpts, config: Path) -> Any:
    """Runs the installed ``image-uploader`` with a tree of its own."""
    return functools.partial(commands.process, config)


@pytest.mark.slow
def test_uploader_is_honoured_entry_by_entry(
    source: str, conf: cfg.ConfigOpts, root: Path, tmp_path: Path
) -> None:
    """tripleo-common drops the key and pushes everything itself."""
    with docker_registry(tmp_path) as target:
        theirs = entry(source, "edge/oci", uploader="python", push_destination=target)
        parameters, totals = tripleo.prepare(
            environment(entry(source), theirs, entry(source, "openstack/plain")), conf=conf
        )
    assert trees.catalog(root) == ["base", "openstack/plain"]
    assert totals.images == 3
    assert parameters["ContainerCephDaemonImage"] == f"{SERVED_AT}/openstack/plain:wallaby"


@pytest.mark.slow
def test_without_a_key_the_configured_driver_is_the_target(
    source: str, conf: cfg.ConfigOpts, root: Path
) -> None:
    item = entry(source)
    del item["uploader"]
    tripleo.prepare(environment(item), conf=conf)
    assert trees.catalog(root) == ["base"]


@pytest.mark.slow
def test_multi_arch_of_an_entry_is_its_own(source: str, conf: cfg.ConfigOpts, root: Path) -> None:
    """In tripleo-common, an entry's key switches it off, and for all entries after it."""
    entries = [entry(source, "multi/oci"), entry(source, "multi/docker", multi_arch=False)]
    whole, single = (trees_index(name) for name in ("multi/oci", "multi/docker"))
    tripleo.prepare(environment(*entries), conf=conf)
    assert (root / "v2/multi/oci/.tags/1.0").resolve().name == str(whole.digest)
    assert (root / "v2/multi/docker/.tags/1.0").resolve().name == str(single.children[0].digest)


@pytest.mark.slow
def test_multi_arch_of_a_run_is_for_entries_that_do_not_say(
    source: str, conf: cfg.ConfigOpts, root: Path
) -> None:
    entries = [entry(source, "multi/oci"), entry(source, "multi/docker", multi_arch=False)]
    del entries[0]["multi_arch"]
    tripleo.prepare(environment(*entries), conf=conf, multi_arch=True)
    whole, single = (trees_index(name) for name in ("multi/oci", "multi/docker"))
    assert (root / "v2/multi/oci/.tags/1.0").resolve().name == str(whole.digest)
    assert (root / "v2/multi/docker/.tags/1.0").resolve().name == str(single.children[0].digest)


def trees_index(name: str) -> images.Image:
    return next(image for image in corpus() if image.repository.value == name)


@pytest.mark.slow
def test_additional_architectures(source: str, conf: cfg.ConfigOpts, root: Path) -> None:
    item = entry(source, "multi/oci")
    del item["multi_arch"]
    tripleo.prepare(environment(item, AdditionalArchitectures=["arm64"]), conf=conf)
    expected = str(trees_index("multi/oci").digest)
    assert (root / "v2/multi/oci/.tags/1.0").resolve().name == expected


@pytest.mark.slow
def test_a_tag_from_a_label(
    registry: TamperedRegistry, source: str, conf: cfg.ConfigOpts, root: Path
) -> None:
    floating = images.image("base", "latest", [images.layer({})], labels={"version": "1.0"})
    registry.add(floating)
    item = entry(source, tag_from_label="version")
    item["set"]["ceph_tag"] = "latest"
    parameters, _ = tripleo.prepare(environment(item), conf=conf)
    assert parameters["ContainerCephDaemonImage"] == f"{SERVED_AT}/base:1.0"
    assert trees.tags(root, "base") == ["1.0"]


@pytest.mark.slow
@pytest.mark.parametrize("label", ["../../../../evil", "a/b", "x\ny", "a.type-map"])
def test_a_label_cannot_name_a_file(
    registry: TamperedRegistry, source: str, conf: cfg.ConfigOpts, root: Path, label: str
) -> None:
    """Defect 2: tripleo-common takes the tag from a label of the image."""
    registry.add(images.image("odd", "1.0", [images.layer({"a": b"a"})], labels={"v": label}))
    registry.tags["odd"].append(label)
    item = entry(source, tag_from_label="v", includes=["/odd:"])
    item["set"] = {"ceph_namespace": source, "ceph_image": "odd", "ceph_tag": "1.0"}
    with pytest.raises(Exception, match=r"not a tag|cannot be served|\.type-map"):
        tripleo.prepare(environment(item), conf=conf)
    assert not list(root.rglob("evil*"))
    assert not list(root.rglob("tags"))


def test_dry_run_copies_nothing(source: str, conf: cfg.ConfigOpts, root: Path) -> None:
    parameters, totals = tripleo.prepare(environment(entry(source)), dry_run=True, conf=conf)
    assert parameters["ContainerCephDaemonImage"] == f"{SERVED_AT}/base:1.0"
    assert totals.images == 0
    assert not root.exists()


@pytest.mark.slow
def test_nothing_of_the_environment_is_changed(source: str, conf: cfg.ConfigOpts) -> None:
    given = environment(entry(source))
    before = json.dumps(given)
    tripleo.prepare(given, conf=conf)
    assert json.dumps(given) == before


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"uploader": "nowhere", "push_destination": "x"}, "entry 2: unknown uploader 'nowhere'"),
        ({"uploader": "local-export"}, "entry 2: has an uploader but no push_destination"),
        ("text", "entry 2: .*must be mappings"),
        ({"set": None}, "entry 2: .*must be mappings"),
    ],
)
def test_entries_that_cannot_work_are_refused_before_anything_is_done(
    source: str, conf: cfg.ConfigOpts, root: Path, item: Any, reason: str
) -> None:
    with pytest.raises(errors.ConfigurationError, match=reason):
        tripleo.prepare(environment(entry(source), item), conf=conf)
    assert not root.exists()


@pytest.mark.slow
def test_a_key_that_has_no_effect_is_told_of(
    source: str, conf: cfg.ConfigOpts, caplog: pytest.LogCaptureFixture
) -> None:
    tripleo.prepare(environment(entry(source, push_destinaton="typo")), conf=conf)
    assert "entry 1: 'push_destinaton' is unknown" in caplog.text


@pytest.mark.slow
def test_prepare_writes_the_parameters(
    command: Any, source: str, root: Path, tmp_path: Path
) -> None:
    first, second, out = (tmp_path / name for name in ("first.yaml", "second.yaml", "out.yaml"))
    first.write_text(yaml.safe_dump(environment({"set": {}})))
    second.write_text(yaml.safe_dump(environment(entry(source))))
    files = ("-e", str(first), "-e", str(second))
    done = command("prepare", *files, "--output-env-file", str(out))
    assert done.returncode == 0, done.stderr
    written = yaml.safe_load(out.read_text())["parameter_defaults"]
    assert written["ContainerCephDaemonImage"] == f"{SERVED_AT}/base:1.0"
    assert done.stdout == ""
    assert f"{source}/base:1.0: copied, 1 layers fetched, 0 mounted" in done.stderr
    assert "1 images, 1 layers uploaded, 0 layers mounted" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_prepare_prints_the_parameters(command: Any, source: str, tmp_path: Path) -> None:
    file = tmp_path / "environment.yaml"
    file.write_text(yaml.safe_dump(environment(entry(source))))
    done = command("prepare", "-e", str(file), "--dry-run")
    written = yaml.safe_load(done.stdout)["parameter_defaults"]
    assert written["ContainerCephDaemonImage"] == f"{SERVED_AT}/base:1.0"


@pytest.mark.slow
def test_prepare_for_roles(command: Any, source: str, root: Path, tmp_path: Path) -> None:
    file, roles = tmp_path / "environment.yaml", tmp_path / "roles.yaml"
    file.write_text(yaml.safe_dump(environment(entry(source))))
    role = {"name": "Compute", "CountDefault": 1, "ServicesDefault": ["OS::TripleO::Services::X"]}
    roles.write_text(yaml.safe_dump([role]))
    assert command("prepare", "-e", str(file), "-r", str(roles)).returncode == 0
    assert not root.exists()
    role["ServicesDefault"] = ["OS::TripleO::Services::CephMon"]
    roles.write_text(yaml.safe_dump([role]))
    assert command("prepare", "-e", str(file), "-r", str(roles)).returncode == 0
    assert trees.catalog(root) == ["base"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "environment.yaml is not yaml"),
        ("[]", "environment.yaml: must be a mapping"),
        ("parameter_defaults: [1]\n", "parameter_defaults must be a mapping"),
        ("parameter_defaults: {ContainerImagePrepare: {a: 1}}\n", "must be a list"),
    ],
)
def test_a_failure_is_one_line_and_status_1(
    command: Any, tmp_path: Path, text: str, reason: str
) -> None:
    file = tmp_path / "environment.yaml"
    file.write_text(text)
    done = command("prepare", "-e", str(file))
    assert done.returncode == 1
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_upload_fails_in_one_line(command: Any, source: str, tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    items = [{"imagename": f"{source}/absent:1.0", "push_destination": SERVED_AT}]
    file.write_text(yaml.safe_dump({"container_images": items}))
    done = command("upload", str(file))
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"{source}/absent:1.0: failed: not found: http://")
    assert lines[1].startswith("0 images, 0 layers uploaded, ")
    assert lines[1].endswith("; 1 image failed")
    assert lines[2].startswith(f"ERROR: {source}/absent:1.0: not found: http://")
    assert len(lines) == 3


@pytest.mark.slow
def test_upload_sums_up(command: Any, source: str, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    items = [
        {"imagename": f"{source}/{image.repository}:{image.tag}", "push_destination": "x:1"}
        for image in corpus()
    ]
    file.write_text(yaml.safe_dump({"container_images": items}))
    done = command("upload", "--multi-arch", str(file))
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].startswith(f"{len(items)} images, ")
    assert len(trees.catalog(root)) == len(items)


@pytest.mark.slow
def test_an_output_file_that_cannot_be_written(command: Any, source: str, tmp_path: Path) -> None:
    file = tmp_path / "environment.yaml"
    file.write_text(yaml.safe_dump(environment(entry(source))))
    out = tmp_path / "absent" / "out.yaml"
    done = command("prepare", "--dry-run", "-e", str(file), "--output-env-file", str(out))
    assert done.returncode == 1
    assert f"cannot write {out}" in done.stderr


@pytest.mark.slow
def test_the_installed_command_shows_the_demonstration(tmp_path: Path) -> None:
    done = commands.process(None, "demo", "--root", tmp_path / "tree")
    assert done.returncode == 0, done.stderr
    for image in corpus():
        assert f"{image.repository}:{image.tag}  {image.digest.value[:15]}..." in done.stdout
    shown = [line.strip() for line in README.read_text().splitlines() if " blobs, " in line]
    assert len(shown) == len(corpus())
    assert set(shown) <= {line.strip() for line in done.stdout.splitlines()}
    assert not trees.problems(tmp_path / "tree")


@pytest.mark.slow
def test_the_example_in_etc_is_understood(
    conf: cfg.ConfigOpts, registry: TamperedRegistry, source: str, root: Path
) -> None:
    """With its registries replaced by one of ours, it does what it says."""
    text = (ETC / "containers-prepare-parameter.yaml").read_text()
    text = text.replace("quay.io", source).replace("192.168.24.1", "127.0.0.1")
    given = yaml.safe_load(text)
    names = ("nova-api", "keystone", "node-exporter")
    for name in names[:2]:
        repository = f"tripleomastercentos9/openstack-{name}"
        layer = images.layer({name: name.encode()})
        registry.add(images.image(repository, "current-tripleo", [layer]))
    child = images.image("prometheus/node-exporter", None, [images.layer({"n": b"n"})])
    registry.add(images.index("prometheus/node-exporter", "v1.3.1", [child]))
    entries = given["parameter_defaults"]["ContainerImagePrepare"]
    # All of a release's images would be too many.
    entries[0] |= {"includes": ["nova-api:", "keystone:"]}
    tripleo.prepare(given, conf=conf)
    assert trees.catalog(root) == [
        "prometheus/node-exporter",
        "tripleomastercentos9/openstack-keystone",
        "tripleomastercentos9/openstack-nova-api",
    ]
    assert trees.tags(root, "tripleomastercentos9/openstack-nova-api") == ["current-tripleo"]


@pytest.mark.parametrize(
    ("given", "said"), [({}, "no"), ({"ContainerImagePrepare": []}, "an empty")]
)
def test_what_nobody_said_is_named(
    caplog: pytest.LogCaptureFixture, given: dict[str, Any], said: str
) -> None:
    # Stopped before anything is asked for: tripleo-common's own needs the internet.
    wrong = {"DockerInsecureRegistryAddress": 1, **given}
    with pytest.raises(errors.ConfigurationError, match="DockerInsecureRegistryAddress"):
        tripleo.prepare({"parameter_defaults": wrong}, conf=cfg.ConfigOpts())
    assert f"{said} ContainerImagePrepare in parameter_defaults" in caplog.text
