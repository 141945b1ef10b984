# SPDX-License-Identifier: Apache-2.0
"""Several lists are one: the same image once, and no two that contradict each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.reference import Tag
from image_uploader_plugins.sync.reading import read
from image_uploader_plugins.sync.wanted import TagChoice, Wanted

DIGEST = f"sha256:{'0123456789abcdef' * 4}"
OTHER = f"sha256:{'fedcba9876543210' * 4}"


def wanted(folder: Path, *lists: str, references: tuple[str, ...] = ()) -> Wanted:
    names = []
    for number, text in enumerate(lists, 1):
        path = folder / f"{number}.yaml"
        path.write_text(text)
        names.append(str(path))
    return read(names, references)


def images(*fields: str) -> str:
    return "images:\n" + "".join(f"- {{repository: a, {each}}}\n" for each in fields)


def test_an_image_of_several_lists_is_one(tmp_path: Path) -> None:
    found = wanted(
        *(tmp_path, "images: ['a:1', 'a:2', b]\n", "docker.io/library/a:1\n"),
        references=("a:1", f"a:3@{DIGEST}", f"a@{OTHER}"),
    )
    one, other = found.entries
    assert one.tags == TagChoice(names=(Tag("1"), Tag("2"), Tag("3")))
    assert (one.pins, one.digests) == ({Tag("3"): Digest(DIGEST)}, (Digest(OTHER),))
    assert one.where == f"{tmp_path / '1.yaml'}:1"
    assert other.source == "docker.io/library/b"


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("glob: v*", "glob: [w*, v*]", TagChoice(globs=("v*", "w*"))),
        ("regex: a", "regex: b", TagChoice(regexes=("a", "b"))),
        ("semver: '1'", "semver: '>2'", TagChoice(semver="1 || >2")),
        ("semver: '1'", "semver: '1'", TagChoice(semver="1")),
        ("names: x", "newest: 3", TagChoice(names=(Tag("x"),), newest=3)),
        ("newest: 3", "names: x", TagChoice(names=(Tag("x"),), newest=3)),
        ("newest: 3, names: x", "newest: 3", TagChoice(names=(Tag("x"),), newest=3)),
        (
            *("glob: v*, exclude: [a, b]", "exclude: [b, a]"),
            TagChoice(globs=("v*",), all=True, exclude=("a", "b")),
        ),
    ],
)
def test_choices_of_tags_become_one(
    tmp_path: Path, one: str, other: str, expected: TagChoice
) -> None:
    (found,) = wanted(tmp_path, images(f"tags: {{{one}}}", f"tags: {{{other}}}")).entries
    assert found.tags == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("tags: {glob: v*, newest: 3}", "tags: {glob: w*, newest: 3}"),
        ("tags: {glob: v*, exclude: a}", "tags: {glob: w*}"),
        ("tags: all, target: b", "tags: all, target: c"),
        ("tags: all, names: full", "tags: all, names: path"),
        ("tags: [x], platforms: linux/amd64", "tags: [y]"),
        ("tags: [x], platforms: linux/amd64", "tags: {glob: y*}"),
        ("tags: {semver: <2}, platforms: linux/amd64", "tags: {semver: '>=2'}"),
        (f"digests: [{DIGEST}], referrers: false", "tags: [x]"),
    ],
)
def test_what_no_single_entry_can_say_is_two(tmp_path: Path, one: str, other: str) -> None:
    assert len(wanted(tmp_path, images(one, other)).entries) == 2


@pytest.mark.parametrize(
    ("one", "other", "problem"),
    [
        ("tags: [x, y], platforms: linux/amd64", "tags: [z, x]", "with different platforms"),
        ("tags: [x], referrers: true", "tags: [x]", "with different referrers"),
        ("tags: [x], referrers: [a/b]", "tags: [x], referrers: true", "with different referrers"),
        ("tags: [x], referrers: [a/b]", "tags: [x]", "with different referrers"),
        (
            *("tags: [x], referrers: false, platforms: linux/amd64", "tags: [x]"),
            "with different platforms and referrers",
        ),
        ("tags: {glob: x*}, referrers: false", "tags: [x]", "with different referrers"),
        (
            "tags: ['1'], referrers: false",
            "tags: {newest: 3, glob: 1*}",
            "with different referrers",
        ),
        ("tags: all, referrers: false", "tags: all", "with different referrers"),
        ("tags: {glob: x, names: y}, referrers: false", "tags: {glob: x}", "different referrers"),
        (f"digests: [{DIGEST}], referrers: false", f"digests: [{DIGEST}]", "different referrers"),
        ("tags: [x], mirror: true", "tags: [y]", "with mirror: true in just one of them"),
    ],
)
def test_contradictions(tmp_path: Path, one: str, other: str, problem: str) -> None:
    places = f"{tmp_path / '1.yaml'}:2 and {tmp_path / '2.yaml'}:2: docker.io/library/a is "
    for first, second in ((one, other), (other, one)):
        with pytest.raises(errors.ConfigurationError, match=problem) as caught:
            wanted(tmp_path, images(first), images(second))
        assert str(caught.value).startswith(places)


def test_all_entries_before_are_looked_at(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r":3 and .*:4: .* different referrers"):
        wanted(tmp_path, images("tags: [x]", "tags: [y], referrers: false", "tags: [y]"))


def test_one_tag_has_one_digest(tmp_path: Path) -> None:
    problem = r":1 and command line: docker.io/library/a:1 has to have two digests"
    with pytest.raises(errors.ConfigurationError, match=problem):
        wanted(tmp_path, f"- a:1@{DIGEST}\n", references=(f"a:1@{OTHER}",))


def test_rules_of_several_lists(tmp_path: Path) -> None:
    found = wanted(
        tmp_path,
        "registries: {quay.io: {insecure: false, mirrors: [m]}, a: {}}\nimages: [a]\n",
        "quay.io:\n  tls-verify: true\n  cert-dir: /certs\n  images: {b: []}\n",
        "registries: {quay.io: {limits: {requests_at_once: 2}}}\nimages: [a]\n",
    ).registries
    assert set(found) == {"quay.io", "a"}
    quay = found["quay.io"]
    assert (quay.insecure, quay.mirrors, quay.requests_at_once) == (False, ("m",), 2)
    assert quay.certs_dir == Path("/certs")


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ("tls-verify: false", "insecure"),
        ("cert-dir: /other", "certs_dir"),
        ("credentials: {username: u, password: hunter2}", "password"),
        ("credentials: {username: v, password: hunter1}", "username"),
    ],
)
def test_rules_that_contradict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: str, key: str
) -> None:
    monkeypatch.setenv("LOGIN", "hunter1")
    own = "username: u, password_env: LOGIN, insecure: false, certs_dir: /certs"
    places = f"{tmp_path / '1.yaml'}:1 and {tmp_path / '2.yaml'}:1: quay.io has different {key};"
    with pytest.raises(errors.ConfigurationError, match=re.escape(places)) as caught:
        wanted(
            tmp_path,
            f"registries: {{quay.io: {{{own}}}}}\nimages: [a]\n",
            f"quay.io:\n  images: {{a: []}}\n  {fields}\n",
        )
    assert "hunter" not in str(caught.value)
