# SPDX-License-Identifier: Apache-2.0
"""What registries.conf says of an image, and where the image is asked for then."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from image_uploader_plugins.sources.endpoints import endpoints
from image_uploader_plugins.sources.registries import Registries
from image_uploader_plugins.sources.registries_conf import RegistriesConf
from image_uploader_plugins.sources.settings import Settings


def conf(folder: Path, *contents: str) -> RegistriesConf:
    """The first content in the file itself, the others in those beside it, in this order."""
    file = folder / "registries.conf"
    file.write_text(contents[0])
    (folder / "registries.conf.d").mkdir()
    for number, content in enumerate(contents[1:]):
        (folder / "registries.conf.d" / f"{number}.conf").write_text(content)
    return RegistriesConf(file, {})


def entry(prefix: str, location: str = "", *mirrors: str, more: str = "") -> str:
    lines = ["[[registry]]", f'prefix = "{prefix}"', more]
    lines += [f'location = "{location}"'] if location else []
    for mirror in mirrors:
        lines += ["[[registry.mirror]]", f'location = "{mirror}"']
    return "\n".join([*lines, ""])


def places(found: RegistriesConf, registry: str, repository: str) -> list[str]:
    """The names under which a repository is asked for."""
    with contextlib.closing(Registries(Settings(registries_conf=found))) as registries:
        asked = endpoints(registries, registry, repository)
        return [f"{endpoint.registry.name}/{endpoint.repository}" for endpoint in asked]


HUB = entry("docker.io", "docker.io", "m1", "m2:5000/hub")


@pytest.mark.parametrize(
    ("content", "image", "expected"),
    [
        (HUB, "docker.io/library/nginx", "m1/library/nginx m2:5000/hub/library/nginx itself"),
        (HUB, "quay.io/a", "itself"),
        (HUB, "docker.io.evil/a", "itself"),
        (HUB, "docker.io:443/a", "itself"),
        (entry("quay.io/a", "", "m"), "quay.io/a/b/c", "m/b/c itself"),
        (entry("quay.io/a", "", "m/x"), "quay.io/a", "m/x itself"),
        (entry("quay.io/a", "", "m/x"), "quay.io/ab", "itself"),
        (entry("quay.io/a/", "", "m/x/"), "quay.io/a/b", "m/x/b itself"),
        (entry("quay.io/a", "r:5000/z", "m"), "quay.io/a/b", "m/b r:5000/z/b"),
        (entry("quay.io", "registry-1.docker.io"), "quay.io/a", "docker.io/a"),
        (entry("*.example", "", "m"), "a.example/x", "m/x itself"),
        (entry("*.example", "", "m/p"), "a.b.example/x", "m/p/x itself"),
        (entry("*.example", "", "m"), "example/x", "itself"),
        (entry("*.example", "", "m"), "quay.io/a.example", "itself"),
        (entry("*.example", "r/q", "m"), "a.example/x", "m/x r/q/x"),
        (entry("*.example", "", "m"), "a.example:5000/x", "itself"),
        (entry("quay.io/a:1", "", "m"), "quay.io/a", "itself"),
        ('unqualified-search-registries = ["quay.io"]', "docker.io/library/a", "itself"),
        (
            entry("*.b.example", "", "m2") + entry("*.example", "", "m1"),
            "a.b.example/x",
            "m2/x itself",
        ),
        (entry("quay.io/a", "", "m2") + entry("quay.io", "", "m1"), "quay.io/a/b", "m2/b itself"),
        (entry("quay.io/a", "", "m2") + entry("quay.io", "", "m1"), "quay.io/c", "m1/c itself"),
        (entry("Quay.IO", "", "M:1/x"), "quay.io/c", "m:1/x/c itself"),
        (
            '[[registry]]\nlocation = "quay.io"\n[[registry.mirror]]\nlocation = "m"',
            "quay.io/c",
            "m/c itself",
        ),
        ('[[registry.mirror]]\nlocation = "m"', "quay.io/c", "itself"),
    ],
)
def test_places(tmp_path: Path, content: str, image: str, expected: str) -> None:
    registry, _, repository = image.partition("/")
    found = places(conf(tmp_path, content), registry, repository)
    assert found == expected.replace("itself", image).split()


def test_a_later_file_replaces_what_an_earlier_one_says_of_a_prefix(tmp_path: Path) -> None:
    first, second = entry("quay.io", "", "m1", "m2"), entry("quay.io", "", "m3")
    other = entry("ghcr.io", "", "m4")
    found = conf(tmp_path, first, second, other)
    assert places(found, "quay.io", "a") == ["m3/a", "quay.io/a"]
    assert places(found, "ghcr.io", "a") == ["m4/a", "ghcr.io/a"]


@pytest.mark.parametrize(
    "mirror",
    [
        "",
        'location = ""',
        "location = 1",
        'location = "https://m"',
        'location = "m"\npull-from-mirror = "never"',
        'location = "a b"',
    ],
)
def test_mirrors_that_are_passed_over(
    tmp_path: Path, mirror: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = f"{entry('quay.io', '', 'm1')}[[registry.mirror]]\n{mirror}\n"
    assert places(conf(tmp_path, content), "quay.io", "a") == ["m1/a", "quay.io/a"]
    assert "registries.conf: a mirror is passed over" in caplog.text


@pytest.mark.parametrize("content", ["registry = 1", "registry = [1]", "x = ", entry(""), ""])
def test_nothing_is_said(tmp_path: Path, content: str) -> None:
    assert places(conf(tmp_path, content), "quay.io", "a") == ["quay.io/a"]


def test_mirrors_of_a_mirror_are_not_asked(tmp_path: Path) -> None:
    content = entry("quay.io", "", "ghcr.io") + entry("ghcr.io", "", "m")
    assert places(conf(tmp_path, content), "quay.io", "a") == ["ghcr.io/a", "quay.io/a"]
