# SPDX-License-Identifier: Apache-2.0
"""What a list and registries.conf say of registries, with the commands that copy from them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from image_uploader_plugins import errors
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sources import registry_source
from image_uploader_plugins.sources.keychain import Login
from image_uploader_plugins.testing import images
from tests.support import commands, odd_registry, sources, trees
from tests.support import registry as registries
from tests.support.commands import Run
from tests.support.odd_registry import OddRegistry
from tests.support.sources import passwords

IMAGE = images.image("ns/one", "1.0", [images.layer({"x": b"x" * 999})])
OWN = Login("robot", "pW-1sEcReT")


class Places:
    """A registry and its mirror, each at an address."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.itself, self.mirror = OddRegistry([IMAGE]), OddRegistry([IMAGE])
        self.at = stack.enter_context(odd_registry.serving(self.itself))
        self.mirror_at = stack.enter_context(odd_registry.serving(self.mirror))

    @property
    def name(self) -> str:
        return f"{self.at}/ns/one:1.0"

    def asked(self) -> tuple[bool, bool]:
        """Whether the registry was asked for content, and whether the mirror was."""
        found = bool(self.itself.paths("/v2/ns/")), bool(self.mirror.paths("/v2/ns/"))
        del self.itself.asked[:], self.mirror.asked[:]
        return found


@pytest.fixture
def places() -> Iterator[Places]:
    with contextlib.ExitStack() as stack:
        yield Places(stack)


def listed(folder: Path, places: Places, **settings: Any) -> Path:
    path = folder / "images.yaml"
    path.write_text(yaml.safe_dump({"registries": {places.at: settings}, "images": [places.name]}))
    return path


def test_a_mirror_of_a_list(run: Run, root: Path, tmp_path: Path, places: Places) -> None:
    """The image comes from there under the name that it has at its registry."""
    file = listed(tmp_path, places, mirrors=[places.mirror_at])
    report = tmp_path / "report.json"
    result = run("sync", "-f", file, "--no-referrers", "--report", report)
    assert result.status == 0, result.err
    assert places.asked() == (False, True)
    (image,) = json.loads(report.read_text())["images"]
    assert image["source"] == places.name
    assert trees.tags(root, "ns/one") == ["1.0"]
    assert not trees.problems(root)


def test_a_password_of_a_list_is_for_its_registry(
    run: Run, tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PASSWORD", OWN.password)
    settings = {"username": OWN.username, "password_env": "REGISTRY_PASSWORD"}
    places.itself.hook = passwords(OWN.basic)
    places.mirror.hook = passwords("nobody's")
    file = listed(tmp_path, places, mirrors=[places.mirror_at], **settings)
    result = run("--debug", "sync", "-f", file)
    assert result.status == 0, result.err
    assert places.mirror.seen() == {None}
    assert OWN.basic in places.itself.seen()
    assert OWN.password not in result.out + result.err


def test_limits_of_a_list(run: Run, tmp_path: Path, places: Places) -> None:
    limits = {"requests_at_once": 1, "requests_per_minute": 60_000, "bytes_per_second": "1G"}
    assert run("sync", "-f", listed(tmp_path, places, limits=limits)).status == 0


@pytest.mark.parametrize(
    ("command", "said", "mirrored"),
    [
        ("sync", None, True),
        ("sync", "false", False),
        ("upload", None, False),
        ("upload", "true", True),
    ],
)
def test_mirrors_of_registries_conf(
    root: Path,
    tmp_path: Path,
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    said: str | None,
    mirrored: bool,
) -> None:
    """They count for sync, unless the configuration says so or otherwise."""
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f'[[registry]]\nlocation = "{places.at}"\n'
        f'[[registry.mirror]]\nlocation = "{places.mirror_at}"\n'
    )
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    section = ["[image_uploader]", f"registries_conf_mirrors = {said}"] if said else []
    config = commands.configuration(root, tmp_path, *section)
    file = tmp_path / "images.txt"
    file.write_text(f"{places.name}\n")
    arguments = ("-f", file, "--no-referrers") if command == "sync" else (file, "--no-signatures")
    assert commands.here(config, command, *arguments) == 0
    assert places.asked() == (not mirrored, mirrored)
    assert trees.tags(root, "ns/one") == ["1.0"]


@pytest.mark.slow
def test_a_pull_through_cache(run: Run, root: Path, tmp_path: Path) -> None:
    """docker-registry's is a mirror, also while the registry itself is away."""
    for folder in ("itself", "cache"):
        (tmp_path / folder).mkdir()
    with contextlib.ExitStack() as itself, contextlib.ExitStack() as stack:
        at = itself.enter_context(registries.docker_registry(tmp_path / "itself"))
        registries.push(at, [IMAGE])
        cache = registries.docker_registry(tmp_path / "cache", f"http://{at}")
        settings = {"mirrors": [stack.enter_context(cache)]}
        file = tmp_path / "images.yaml"
        name = f"{at}/{IMAGE.repository}:{IMAGE.tag}"
        file.write_text(yaml.safe_dump({"registries": {at: settings}, "images": [name]}))
        assert run("sync", "-f", file).status == 0
        registries.until_kept(tmp_path / "cache", IMAGE)
        itself.close()
        shutil.rmtree(root)
        result = run("sync", "-f", file)
    assert result.status == 0, result.err
    assert "may be left behind" in result.err
    assert trees.tags(root, "ns/one") == ["1.0"]
    assert not trees.problems(root)


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 4, 1000])
def test_tags_of_docker_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """All of them, in pages or at once."""
    named = [dataclasses.replace(IMAGE, tag=Tag(f"v{number}")) for number in range(8)]
    monkeypatch.setattr(registry_source, "_TAGS_AT_ONCE", count)
    monkeypatch.setattr(registry_source, "_FIRST_TAGS", f"?n={count}")
    with registries.docker_registry(tmp_path) as address:
        registries.push(address, named)
        assert sorted(sources.source(address, "ns/one").tags()) == [f"v{n}" for n in range(8)]
        with pytest.raises(errors.ImageUnknown):
            sources.source(address, "ns/two").tags()
