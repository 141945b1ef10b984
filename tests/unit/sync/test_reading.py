# SPDX-License-Identifier: Apache-2.0
"""Lists of images in the formats of other tools, and how each is recognised."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from image_uploader_plugins import errors, files
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sync import reading
from image_uploader_plugins.sync.reading import read
from image_uploader_plugins.sync.tag_choice import chosen
from image_uploader_plugins.sync.wanted import TagChoice, Wanted

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

OWN = "images:\n- a\n"
OWN_WITH_ALL = f"""\
registries:
  quay.io: {{insecure: false, certs_dir: a, mirrors: [b], limits: {{bytes_per_second: 1M}}}}
defaults: {{platforms: [linux/amd64], referrers: true, names: path, mirror: false}}
images:
- a:1
- repository: b
  tags: {{names: [a], glob: b, regex: [c], semver: '>1', newest: 3, exclude: d}}
  digests: [{DIGEST}]
  target: c/d
  referrers: [a/b]
- {{repository: c, tags: [1.10]}}
"""
SKOPEO = """\
registry.example.com:
    images:
        busybox: []
        nothing:
        redis:
            - "1.0"
            - 2.0
            - "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    images-by-tag-regex:
        nginx: ^1\\.13\\.[12]-alpine-perl$
        curl: (?i)^V8|edge
    images-by-semver:
        alpine: ">= 3.12.0"
    credentials:
        username: john
        password: this is a secret
    tls-verify: true
    cert-dir: /home/john/certs
quay.io:
    tls-verify: false
    images:
        coreos/etcd:
            - latest
docker.io:
    images:
        alpine: [3.20]
"""
K3S = (
    "\ufeff# of k3s\r\ndocker.io/rancher/klipper-helm:v0.8.3-build20231120  \r\n\r\n"
    "rancher/mirrored-pause:3.6\r\ndocker://quay.io/a/b:1 # with a reason\r\n"
)
UPLOADS = """\
container_images:
- imagename: quay.io/prometheus/node-exporter:v1.3.1
  push_destination: 192.168.24.1:8787
  multi_arch: yes
- imagename: a/b:1
  pull_source: quay.io
  push_destination: 192.168.24.1:8787/ns
  signatures: "false"
  multi_arch: false
- imagename: quay.io/c/d:2
  platforms: [linux/arm64/v8, linux/amd64]
  artifact_types: [text/spdx+json]
  names: full
  image_source: tripleo
  modify_role:
- nginx
"""


def written(folder: Path, text: str, name: str = "list.yaml") -> str:
    path = folder / name
    path.write_bytes(text.encode())
    return str(path)


def wanted(folder: Path, text: str, name: str = "list.yaml") -> Wanted:
    return read([written(folder, text, name)], [])


def places(found: Wanted) -> dict[str, str]:
    """The line of each image and its name, with its tags."""
    return {
        each.where.rpartition(":")[2]: f"{each.source}:{','.join(map(str, each.tags.names))}"
        for each in found.entries
    }


def test_a_list_of_skopeo(tmp_path: Path) -> None:
    found = wanted(tmp_path, SKOPEO)
    host = "registry.example.com"
    assert {f"{each.source} {each.where.rpartition(':')[2]}" for each in found.entries} == {
        *(f"{host}/busybox 3", f"{host}/nothing 4", f"{host}/redis 5", f"{host}/nginx 10"),
        *(f"{host}/curl 11", f"{host}/alpine 13", "quay.io/coreos/etcd 22"),
        "docker.io/library/alpine 26",
    }
    tags = {each.source.removeprefix(f"{host}/"): each.tags for each in found.entries}
    assert tags["busybox"] == tags["nothing"] == TagChoice(all=True)
    assert tags["redis"] == TagChoice(names=(Tag("1.0"), Tag("2.0")))
    assert tags["alpine"] == TagChoice(semver=">= 3.12.0")
    assert tags["docker.io/library/alpine"] == TagChoice(names=(Tag("3.20"),))
    (redis,) = (each for each in found.entries if each.repository.value == "redis")
    assert redis.digests == (Digest(DIGEST),)


def test_skopeo_finds_an_expression_anywhere_in_a_tag(tmp_path: Path) -> None:
    tags = {each.repository.value: each.tags for each in wanted(tmp_path, SKOPEO).entries}
    available = ["1.13.1-alpine-perl", "1.13.1-alpine-perl2", "v8.1", "my-edge-1", "EDGE", "av8"]
    assert chosen(tags["nginx"], available) == [Tag("1.13.1-alpine-perl")]
    assert chosen(tags["curl"], available) == [Tag("EDGE"), Tag("my-edge-1"), Tag("v8.1")]


def test_registries_of_skopeo(tmp_path: Path) -> None:
    found = wanted(tmp_path, SKOPEO).registries
    one, quay = found["registry.example.com"], found["quay.io"]
    assert (one.insecure, one.username, one.password) == (False, "john", "this is a secret")
    assert one.certs_dir == Path("/home/john/certs")
    assert (quay.insecure, quay.username, quay.certs_dir) == (True, None, None)
    assert found["docker.io"].insecure is None
    assert "secret" not in repr(found)


def test_names_a_line(tmp_path: Path) -> None:
    expected = {
        "2": "docker.io/rancher/klipper-helm:v0.8.3-build20231120",
        "4": "docker.io/rancher/mirrored-pause:3.6",
        "5": "quay.io/a/b:1",
    }
    assert places(wanted(tmp_path, K3S, "k3s-images.txt")) == expected
    assert places(wanted(tmp_path, K3S, "k3s-images")) == expected


def test_a_list_of_upload(tmp_path: Path) -> None:
    found = wanted(tmp_path, UPLOADS)
    assert places(found) == {
        "2": "quay.io/prometheus/node-exporter:v1.3.1",
        "5": "quay.io/a/b:1",
        "10": "quay.io/c/d:2",
        "16": "docker.io/library/nginx:latest",
    }
    first, second, third, last = found.entries
    assert (first.platforms, first.referrers, first.full_names) == (None, None, None)
    assert second.platforms == (Platform.parse("linux/amd64"),)
    assert (second.referrers, second.target) == (False, RepositoryName("ns/a/b"))
    assert (third.full_names, third.target) == (True, None)
    assert third.platforms == tuple(map(Platform.parse, ("linux/arm64", "linux/amd64")))
    assert third.artifact_types == ("text/spdx+json",)
    assert last.tags == TagChoice(names=(Tag("latest"),))


@pytest.mark.parametrize(
    "text",
    ["uploads:\n- a/b:1\ncontainer_images:\n", "- a/b:1\n", "- 'a/b:1'\n", "- imagename: a/b:1\n"],
)
def test_other_forms_that_upload_takes(tmp_path: Path, text: str) -> None:
    (source,) = places(wanted(tmp_path, text)).values()
    assert source == "docker.io/a/b:1"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ("imagename: a, uploader: python", "uploader: sync has no such thing; image-uploader upl"),
        ("imagename: a, modify_role: r", "modify_role: sync has no such thing"),
        ("imagename: a, modify_append_tag: -x", "modify_append_tag: sync has no such thing"),
        ("imagename: a, foreign_layers: true", "foreign_layers: sync has no such thing"),
        ("imagename: 'containers-storage:a'", "imagename: containers-storage: is not read by sync"),
        ("imagename: a, names: short", "names must be full or path, not 'short'"),
        ("imagename: a, multi_arch: maybe", "multi_arch must be true or false, not 'maybe'"),
        (
            "imagename: a, names: full, push_destination: 'h:1/ns'",
            "imagename: names: full, and a namespace in push_destination",
        ),
        ("imagename: A", "imagename: not a repository name: 'library/A'"),
        ("image: a", "an image must be a name, or a mapping with an imagename"),
        ("repository: a", "(one with a repository belongs below 'images:')"),
        ("imagename: [a]", "an image must be a name, or a mapping with an imagename"),
    ],
)
def test_what_upload_alone_can_do(tmp_path: Path, fields: str, problem: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        wanted(tmp_path, f"container_images:\n- b\n- {{{fields}}}\n")
    where, _, what = str(caught.value).partition(": ")
    assert where == f"{tmp_path / 'list.yaml'}:3"
    assert problem in what


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "lists no image"),
        ("# nothing\n", "lists no image"),
        ("[ ]\n", "lists no image"),
        ("quay.io: {}\n", "lists no image"),
        ("container_images:\n", "lists no image"),
        ("{}\n", ":1: no list of images"),
        ("a:\n  b: c\n", ":1: no list of images"),
        ("container_image:\n- a\n", ":1: no list of images"),
        ("container_images: a\n", ":1: must be a list of images"),
        ("hello world\n", ":1: image: not a repository name"),
        ("a\nb c\n", ":2: image: not a repository name"),
        ("- a: [\n", " is not yaml, line 2"),
        (
            "quay.io:\n  image: {a: []}\n",
            ":2: quay.io: unknown key 'image'; did you mean 'images'?",
        ),
        (
            "quay.io:\n  images:\n    a: latest\n",
            ":3: quay.io.images.a: found 'latest', expected a",
        ),
        ("quay.io:\n  images:\n    a: ['sha256:1']\n", ":3: images: not a sha256 or sha512 digest"),
        ("quay.io:\n  images:\n    a: [x y]\n", ":3: images: not a tag: 'x y'"),
        ("quay.io:\n  images:\n    'a:1': []\n", ":3: images: a repository has no tag"),
        ("quay.io:\n  images-by-semver: {a: '>q'}\n", ":2: images-by-semver: not a range of ver"),
        ("quay.io:\n  images-by-tag-regex: {a: '['}\n", ":2: images-by-tag-regex: not a regular"),
        ("quay.io:\n  credentials: {username: a}\n", ":2: quay.io.credentials: 'password' is miss"),
        ("quay.io:\n", ":1: quay.io: found nothing, expected a mapping with images"),
        ("Quay.io: {}\nquay.io: {}\n", ":2: quay.io is here twice"),
    ],
)
def test_what_is_no_list(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=re.escape(problem)) as caught:
        wanted(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "list.yaml"))


def test_a_file_of_text_has_names_whatever_they_look_like(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"list.txt:1: image: not a tag"):
        wanted(tmp_path, OWN, "list.txt")


@pytest.mark.parametrize("text", [OWN, "a\n", "\ufeffa\n", "- a\n"])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    (found,) = read(["-"], []).entries
    assert found.source == "docker.io/library/a"
    assert found.where.startswith("standard input:")


def test_standard_input_is_read_once() -> None:
    with pytest.raises(errors.ConfigurationError, match="standard input can be read as one list"):
        read(["-", "-"], [])


def test_names_of_a_command_line_are_checked_before_any_file(tmp_path: Path) -> None:
    for wrong in (["nginx:v1.*"], [f"a:1@{DIGEST}", "a:1@sha256:" + "0" * 64]):
        with pytest.raises(errors.ConfigurationError, match="command line"):
            reading.named(wrong)
    file = written(tmp_path, "b\n", "list.txt")
    names = [entry.source for entry in reading.read_with([file], reading.named(["a"])).entries]
    assert names == ["docker.io/library/b", "docker.io/library/a"]


def test_relative_paths_in_standard_input_begin_here(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "registries: {quay.io: {certs_dir: certs}}\nimages: [a]\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert read(["-"], []).registries["quay.io"].certs_dir == Path("certs")


def test_a_list_has_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SIZE_LIMIT", 3)
    assert wanted(tmp_path, "a:1")
    with pytest.raises(errors.ConfigurationError, match="more than 3 characters"):
        wanted(tmp_path, "a:12")
    monkeypatch.setattr(sys, "stdin", io.StringIO("a:12"))
    with pytest.raises(errors.ConfigurationError, match="more than 3 characters"):
        read(["-"], [])


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\xff"])
def test_what_is_no_text(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    for name in (str(path), str(tmp_path), str(tmp_path / "nowhere")):
        with pytest.raises(errors.ConfigurationError, match=re.escape(f"cannot read {name}")):
            read([name], [])


def test_names_on_the_command_line() -> None:
    one, other, third = read([], ["nginx", f"quay.io/a:1@{DIGEST}", "docker://b:2"]).entries
    assert (one.where, one.source) == ("command line", "docker.io/library/nginx")
    assert other.pins == {Tag("1"): Digest(DIGEST)}
    assert third.source == "docker.io/library/b"
    with pytest.raises(errors.ConfigurationError, match="command line: image: not a tag: 'v1"):
        read([], ["nginx:v1.*"])


def test_upload_reads_a_mark_before_the_text_as_well(tmp_path: Path) -> None:
    name = written(tmp_path, K3S, "k3s-images.txt")
    assert files.images(name)[0]["imagename"].startswith("docker.io/rancher/klipper-helm:")


PARTS = st.sampled_from(
    [
        *("images", "container_images", "registries", "quay.io", "repository", "tags", "newest"),
        *(
            ":",
            ": ",
            "\n",
            "\n- ",
            "\n  ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "'",
            "*",
            "&a ",
            "1",
            "all",
            "#",
        ),
    ]
)


@given(st.lists(PARTS, max_size=25).map("".join))
def test_every_text_is_read_or_refused(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(text))
        try:
            assert read(["-"], []).entries
        except errors.ConfigurationError as e:
            assert str(e).startswith("standard input")
            assert "\n" not in str(e)


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(
            None,
            "",
            0,
            -1,
            1.5,
            True,
            [],
            {},
            [[]],
            {"a": 1},
            "all",
            "x" * 300,
            "\x85",
            "a\nb",
            "*",
        ),
        *("é", "[", "(", "sha256:", "10M", "²", "1e400", 10**30, "u:p@h/a", "[::1", "..", "-"),
    ]
)


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every mapping and list in a value, each with every key or index."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places_in(value[key])


@given(st.sampled_from([SKOPEO, UPLOADS, OWN_WITH_ALL]), st.data())
def test_odd_values_are_read_or_refused(text: str, data: st.DataObject) -> None:
    root = yaml.safe_load(text)
    inside, key = data.draw(st.sampled_from(list(places_in(root))))
    inside[key] = data.draw(ODD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(yaml.safe_dump(root)))
        try:
            assert read(["-"], []).entries
        except errors.ConfigurationError as e:
            assert str(e).startswith("standard input")
            assert "\n" not in str(e)
