# SPDX-License-Identifier: Apache-2.0
"""Our own lists of images: every key of the schema is read, and what is wrong has its line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from image_uploader_plugins import errors
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.manifest import Platform
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sources.registry_rules import RegistryRules
from image_uploader_plugins.sync import schema
from image_uploader_plugins.sync.reading import read
from image_uploader_plugins.sync.wanted import Entry, TagChoice, Wanted

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
IN_FILE, IN_ENVIRONMENT = "of the file", "of the environment"
SPDX = "application/spdx+json"


def wanted(folder: Path, text: str) -> Wanted:
    path = folder / "images.yaml"
    path.write_text(text)
    return read([str(path)], [])


def entry(folder: Path, fields: str) -> Entry:
    (found,) = wanted(folder, f"images: [{{repository: quay.io/a/b, {fields}}}]").entries
    return found


def rules(folder: Path, fields: str) -> RegistryRules:
    text = f"registries: {{quay.io: {{{fields}}}}}\nimages: [a]"
    return wanted(folder, text).registries["quay.io"]


def tags(*texts: str) -> TagChoice:
    return TagChoice(names=tuple(map(Tag, texts)))


def by_default(folder: Path, fields: str) -> Entry:
    text = f"defaults: {{{fields}}}\nimages: [a, {{repository: b, tags: [c]}}]"
    one, other = wanted(folder, text).entries
    assert (one.platforms, one.referrers, one.full_names, one.mirror) == (
        *(other.platforms, other.referrers, other.full_names, other.mirror),
    )
    return one


ARM = (Platform.parse("linux/arm64"),)
KEYS: dict[str, Callable[[Path], bool]] = {
    "images": lambda f: wanted(f, "images: [a]").entries[0].source == "docker.io/library/a",
    "images.repository": lambda f: entry(f, "tags: all").source == "quay.io/a/b",
    "images.tags": lambda f: entry(f, "tags: [x, 1.10]").tags == tags("x", "1.10"),
    "images.tags.names": lambda f: entry(f, "tags: {names: [x, y]}").tags == tags("x", "y"),
    "images.tags.glob": lambda f: (
        entry(f, "tags: {glob: 'v*'}").tags == TagChoice(globs=("v*",))
        and entry(f, "tags: {glob: ['v*', 1]}").tags == TagChoice(globs=("v*", "1"))
    ),
    "images.tags.regex": lambda f: (
        entry(f, "tags: {regex: ['v[0-9]']}").tags == TagChoice(regexes=("v[0-9]",))
    ),
    "images.tags.semver": lambda f: (
        entry(f, "tags: {semver: '>=1 <2'}").tags == TagChoice(semver=">=1 <2")
        and entry(f, "tags: {semver: 1.10}").tags == TagChoice(semver="1.10")
    ),
    "images.tags.newest": lambda f: entry(f, "tags: {newest: 3}").tags == TagChoice(newest=3),
    "images.tags.exclude": lambda f: (
        entry(f, "tags: {exclude: '*-rc*'}").tags == TagChoice(all=True, exclude=("*-rc*",))
        and entry(f, "tags: {newest: 1, exclude: [a]}").tags == TagChoice(newest=1, exclude=("a",))
    ),
    "images.digests": lambda f: (
        entry(f, f"digests: [{DIGEST}]").digests == (Digest(DIGEST),)
        and not entry(f, f"digests: [{DIGEST}]").tags.needs_list
    ),
    "images.target": lambda f: entry(f, "tags: all, target: c/d").target == RepositoryName("c/d"),
    "images.platforms": lambda f: (
        entry(f, "tags: all, platforms: [linux/arm64/v8]").platforms == ARM
        and entry(f, "tags: all, platforms: linux/arm64").platforms == ARM
        and entry(f, "tags: all, platforms: all").platforms is None
    ),
    "images.referrers": lambda f: (
        entry(f, "tags: all, referrers: false").referrers is False
        and entry(f, "tags: all, referrers: yes").referrers is True
        and entry(f, "tags: all").referrers is None
        and entry(f, f"tags: all, referrers: [{SPDX}]").artifact_types == (SPDX,)
        and entry(f, f"tags: all, referrers: [{SPDX}]").referrers is True
    ),
    "images.names": lambda f: (
        entry(f, "tags: all, names: full").full_names is True
        and entry(f, "tags: all, names: path").full_names is False
        and entry(f, "tags: all").full_names is None
    ),
    "images.mirror": lambda f: (
        entry(f, "tags: all, mirror: true").mirror and not entry(f, "tags: all").mirror
    ),
    "defaults": lambda f: by_default(f, "").platforms is None,
    "defaults.platforms": lambda f: by_default(f, "platforms: [linux/arm64]").platforms == ARM,
    "defaults.referrers": lambda f: by_default(f, "referrers: false").referrers is False,
    "defaults.names": lambda f: by_default(f, "names: full").full_names is True,
    "defaults.mirror": lambda f: by_default(f, "mirror: true").mirror,
    "registries": lambda f: rules(f, "") == RegistryRules(),
    "registries.insecure": lambda f: (
        rules(f, "insecure: true").insecure is True
        and rules(f, "insecure: false").insecure is False
    ),
    "registries.certs_dir": lambda f: (
        rules(f, "certs_dir: certs").certs_dir == f / "certs"
        and rules(f, "certs_dir: /etc/certs").certs_dir == Path("/etc/certs")
    ),
    "registries.username": lambda f: rules(f, "username: 12, password_env: LOGIN").username == "12",
    "registries.password_file": lambda f: (
        rules(f, "username: u, password_file: p").password == IN_FILE
    ),
    "registries.password_env": lambda f: (
        rules(f, "username: u, password_env: LOGIN").password == IN_ENVIRONMENT
    ),
    "registries.mirrors": lambda f: (
        rules(f, "mirrors: [M.example.com, '[::1]:5000/a/b']").mirrors
        == ("m.example.com", "[::1]:5000/a/b")
    ),
    "registries.limits": lambda f: rules(f, "limits: {}") == RegistryRules(),
    "registries.limits.requests_at_once": lambda f: (
        rules(f, "limits: {requests_at_once: 4}").requests_at_once == 4
    ),
    "registries.limits.requests_per_minute": lambda f: (
        rules(f, "limits: {requests_per_minute: 60}").requests_per_minute == 60
    ),
    "registries.limits.bytes_per_second": lambda f: (
        rules(f, "limits: {bytes_per_second: 10M}").bytes_per_second == 10_000_000
        and rules(f, "limits: {bytes_per_second: 500}").bytes_per_second == 500
    ),
}


def parts(fields: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All keys that the schema knows below one of its parts, each with its own."""
    for each in fields.get("anyOf", []):
        yield from parts(each, path)
    for part in ("items", "additionalProperties"):
        if fields.get(part):
            yield from parts(fields[part], path)
    for name, each in fields.get("properties", {}).items():
        inner = f"{path}.{name}" if path else name
        yield inner, each
        yield from parts(each, inner)


@pytest.fixture
def _secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p").write_text(f"{IN_FILE}\nand more\n")
    monkeypatch.setenv("LOGIN", IN_ENVIRONMENT)


@pytest.mark.parametrize("key", sorted(dict(parts(schema.loaded()))))
@pytest.mark.usefixtures("_secrets")
def test_every_key_is_read(tmp_path: Path, key: str) -> None:
    assert KEYS[key](tmp_path)


def test_no_other_key_is_read() -> None:
    assert set(KEYS) == set(dict(parts(schema.loaded())))


def test_the_schema_is_one() -> None:
    found = json.loads(schema.text())
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(found)


def test_editors_show_what_every_key_is_for() -> None:
    described = dict(parts(schema.loaded()))
    assert set(described) == set(KEYS)
    for key, fields in described.items():
        assert fields["title"], key
        assert fields["description"].endswith("."), key


def test_editors_accept_what_is_read(tmp_path: Path) -> None:
    """As a validator that knows nothing of us does it, on what YAML makes of the same text."""
    text = f"""
registries: {{quay.io: {{insecure: false, limits: {{requests_at_once: 4, bytes_per_second: 10M}}}}}}
defaults: {{platforms: all, referrers: [{SPDX}], names: full, mirror: true}}
images:
- nginx
- {{repository: a, tags: [1.27, x]}}
- {{repository: b, tags: {{semver: 1.2, newest: 3}}, digests: [{DIGEST}], platforms: linux/arm64}}
"""
    assert len(wanted(tmp_path, text).entries) == 3
    jsonschema.validate(yaml.safe_load(text), json.loads(schema.text()))


@pytest.mark.parametrize("words", ["true", "false", "1", "1.10", "2024-01-01", "on", "0x10", "1_0"])
def test_a_tag_is_the_text_that_stands_there(tmp_path: Path, words: str) -> None:
    assert entry(tmp_path, f"tags: [{words}]").tags == tags(words)
    assert entry(tmp_path, f"tags: {words}").tags == tags(words)


def test_a_name_may_have_a_tag_and_a_digest(tmp_path: Path) -> None:
    text = f"images:\n- a:1@{DIGEST}\n- b@{DIGEST}\n- localhost:5000/c\n"
    one, other, third = wanted(tmp_path, text).entries
    assert (one.tags, one.pins, one.digests) == (tags("1"), {Tag("1"): Digest(DIGEST)}, ())
    assert (other.tags, other.pins, other.digests) == (TagChoice(), {}, (Digest(DIGEST),))
    assert (third.source, third.tags) == ("localhost:5000/c", tags("latest"))
    assert [each.where.rpartition(":")[2] for each in (one, other, third)] == ["2", "3", "4"]


def test_an_image_says_more_than_the_defaults(tmp_path: Path) -> None:
    text = f"""
defaults: {{platforms: [linux/amd64], referrers: [{SPDX}], names: full, mirror: true}}
images:
- {{repository: a, tags: all, platforms: all, referrers: false, names: path, mirror: false}}
"""
    (found,) = wanted(tmp_path, text).entries
    assert (found.platforms, found.referrers, found.artifact_types) == (None, False, ())
    assert (found.full_names, found.mirror) == (False, False)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("images:\n- a\n- repository: a/b\n  tag: v1\n", ":4: images: unknown key 'tag'; did you"),
        (
            "registries:\n  quay.io:\n    certs-dir: /x\nimages: [a]\n",
            ":3: registries.quay.io: unknown key 'certs-dir'; did you mean 'certs_dir'?",
        ),
        ("images: [a]\nzzz: 1\n", ":2: unknown key 'zzz'; known are images, defaults, registries"),
        ("registries: {}\n", ":1: 'images' is missing: a list of images"),
        ("images: []\n", ":1: images: found an empty list, expected a list of images"),
        ("images:\n", ":1: images: found nothing, expected a list of images"),
        ("images:\n- [a]\n", ":2: images: found a list, expected a name of an image, or"),
        ("images:\n-\n", ":2: images: found nothing, expected a name of an image, or"),
        ("images:\n- {tags: all}\n", ":2: images: 'repository' is missing: a name of a repository"),
        (
            "images:\n- repository: a\n",
            ":2: images: neither tags nor digests of a; say 'tags",
        ),
        ("images:\n- a\n- 'B:1'\n", ":3: images: not a repository name: 'library/B'"),
        (
            "images:\n- {repository: 'a:1', tags: all}\n",
            ":2: images.repository: a repository has no tag, digest or user in its name",
        ),
        (
            "images:\n- repository: a\n  tags:\n  - v1\n  - v1.*\n",
            ":5: images.tags: found 'v1.*', expected a tag (a pattern is written as",
        ),
        ("images:\n- {repository: a, tags: v*}\n", ":2: images.tags: found 'v*', expected a tag"),
        ("images:\n- {repository: a, tags: }\n", ":2: images.tags: found nothing, expected all, a"),
        ("images:\n- {repository: a, tags: {}}\n", ":2: images.tags: found an empty mapping"),
        (
            "images:\n- repository: a\n  tags:\n    newest: 0\n",
            ":4: images.tags.newest: found '0', expected a number from 1 on",
        ),
        ("images: [{repository: a, tags: {newest: x}}]", ":1: images.tags.newest: found 'x'"),
        ("images: [{repository: a, tags: {globs: x}}]", ":1: images.tags: unknown key 'globs'; di"),
        ("images: [{repository: a, tags: {semver: '>a'}}]", ":1: images.tags.semver: not a range"),
        ("images: [{repository: a, tags: {regex: '['}}]", ":1: images.tags.regex: not a regular"),
        (
            "images: [{repository: a, tags: {regex: ['[[:digit:]]']}}]",
            ":1: images.tags.regex: not a regular expression: '[[:digit:]]': Possible nested set",
        ),
        (
            "images:\n- repository: a\n  tags:\n    names: [x]\n    exclude: y\n",
            ":5: images.tags.exclude: nothing to leave out: all tags are named",
        ),
        (
            "images: [{repository: a, digests: [sha256:0]}]",
            ":1: images.digests: found 'sha256:0'",
        ),
        ("images: [{repository: a, tags: x, target: 'h:1/a'}]", ":1: images.target: not a"),
        (
            "images:\n- repository: a\n  tags: x\n  platforms:\n  - linux/amd64\n  - amd64\n",
            ":6: images.platforms: found 'amd64', expected a platform such as linux/amd64",
        ),
        (
            "images: [{repository: a, tags: x, names: short}]",
            ":1: images.names: found 'short'",
        ),
        ("images: [{repository: a, tags: x, mirror: maybe}]", ":1: images.mirror: found 'maybe'"),
        (
            "images: [{repository: a, tags: x, referrers: cosign}]",
            ":1: images.referrers: found 'cosign', expected true, false, or types of artifacts",
        ),
        ("images: [{repository: a, tags: x, referrers: [x]}]", ":1: images.referrers: found 'x'"),
        ("defaults: {tags: all}\nimages: [a]\n", ":1: defaults: unknown key 'tags'"),
        ("registries:\n  'http://a': {}\nimages: [a]\n", ":2: registries: not a registry, host or"),
        (
            "registries: {a: {mirrors: ['http://b']}}\nimages: [a]",
            ":1: registries.a.mirrors: not a",
        ),
        ("registries: {a: {mirrors: [b/C]}}\nimages: [a]", ":1: registries.a.mirrors: not a"),
        (
            "registries: {a: {limits: {bytes_per_second: 10MB}}}\nimages: [a]",
            ":1: registries.a.limits.bytes_per_second: found '10MB', expected a number of bytes",
        ),
        (
            "registries:\n  docker.io: {}\n  index.docker.io: {}\nimages: [a]\n",
            ":3: registries: docker.io is here twice",
        ),
        ("foo: 1\n", ":1: no list of images: it has neither 'images', as our own lists have, nor"),
        ("image:\n- a\n", "nor registries as those of skopeo sync; did you mean 'images'?"),
    ],
)
def test_what_is_wrong_and_where(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        wanted(tmp_path, text)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'images.yaml'}:")
    assert "\n" not in str(caught.value)


def test_the_first_of_several_problems(tmp_path: Path) -> None:
    text = "images:\n- {repository: a, tags: x, mirror: maybe}\n- {repository: a, tag: x}\n"
    with pytest.raises(errors.ConfigurationError, match=r"yaml:2: .* \(and 1 more like this\)$"):
        wanted(tmp_path, text)


@pytest.mark.parametrize(
    "fields",
    [
        "username: u, password: hunter2",
        "username: u, password_env: hunter2",
        "username: u, password_env: 'hunter2!'",
        "username: u, password_env: [hunter2]",
        "username: u, password_file: hunter2",
        "username: u, password_file: hunter2, password_env: hunter2",
        "password_file: hunter2",
        "mirrors: ['u:hunter2@m.example.com/x']",
        "insecure: true}, 'u:hunter2@m.example.com': {",
        "limits: {}}, 'u:hunter2@m.example.com': {insecure: maybe",
    ],
)
def test_no_secret_is_told(tmp_path: Path, fields: str) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        rules(tmp_path, fields)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None or "hunter2" not in repr(caught.value.__cause__)


@pytest.mark.usefixtures("_secrets")
def test_a_password_is_in_no_repr(tmp_path: Path) -> None:
    assert IN_FILE not in repr(rules(tmp_path, "username: u, password_file: p"))
