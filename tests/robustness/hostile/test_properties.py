# SPDX-License-Identifier: Apache-2.0
"""Whatever text stands wherever it can: refused, or harmless in every file of the tree."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import string
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from image_uploader_plugins import errors, loader, media_types
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.local_export import layout
from image_uploader_plugins.local_export.local_export_driver import LocalExportDriver
from image_uploader_plugins.local_export.views import documents
from image_uploader_plugins.manifest import Descriptor, Manifest
from image_uploader_plugins.reference import ImageRef, RepositoryName, Tag
from image_uploader_plugins.text import one_line, shown
from tests.robustness.hostile import corpus
from tests.support import commands, trees

NAME = RepositoryName(corpus.NAME)

PIECES = [
    *('"', "'", "`", "\\", "\n", "\r", "\r\n", "\0", "\t", "\x1b[2J", "\x7f", "\u2028", "\u202e"),
    *("${ENV:x}", "%{HTTP_HOST}e", "%n", "$1", "$(id)", "<", "</Files>", "#", ";", "{", "}", "|"),
    *("..", "../", "/", "//", "./", "/etc/passwd", "~", "*", "?", "[", "&", "=", " ", "%2e%2e%2f"),
    *("\nHeader set X y\n", '"\nSetHandler x', "URI: ../x\n\n", "\nContent-Type: x", ".htaccess"),
    *("\ud800", "\udfff", "\u0000", "\u00e9", "\u212a", "\u017f", "\U0001f4a5", "\ufeff"),
    *("sha256:", "sha512:", ":", "@", "latest", ".type-map", ".json", "application/", "a/b", "x"),
    *("local_export", "__proto__", "null", "None", "-", "--", ".", "_", "A" * 300),
]
# Text that is near the grammars, or far from them.
hostile = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.text(max_size=40),
    st.text(st.characters(codec="ascii"), max_size=40),
    st.text(string.ascii_lowercase + string.digits + "._-/:@+", max_size=40),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), hostile)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile, inner, max_size=3),
    max_leaves=8,
)

BASES: dict[str, Callable[..., dict[str, Any]]] = {
    media_types.OCI_MANIFEST: corpus.image,
    media_types.DOCKER_MANIFEST: lambda: corpus.image(mediaType=media_types.DOCKER_MANIFEST),
    media_types.OCI_INDEX: lambda: corpus.index(corpus.CHILD.descriptor()),
    media_types.DOCKER_LIST: lambda: corpus.index(
        corpus.CHILD.descriptor(), mediaType=media_types.DOCKER_LIST
    ),
    media_types.DOCKER_SCHEMA1: corpus.schema1,
}
_ANNOTATIONS = st.dictionaries(hostile, hostile | scalars, max_size=4)
_PLATFORM = st.fixed_dictionaries(
    {}, optional={"os": hostile, "architecture": hostile, "variant": anything}
)
_DESCRIPTOR = {
    "mediaType": hostile,
    "artifactType": hostile,
    "annotations": _ANNOTATIONS,
    "urls": st.lists(hostile, max_size=2) | anything,
    "platform": _PLATFORM,
    "digest": hostile,
    "size": scalars,
    "data": hostile,
}
_TOP = {
    "mediaType": hostile,
    "artifactType": hostile,
    "annotations": _ANNOTATIONS,
    "name": hostile,
    "tag": hostile,
    "architecture": hostile,
    "history": anything,
    "signatures": anything,
}


@st.composite
def manifests(draw: st.DrawFn) -> tuple[bytes, str]:
    """A manifest with hostile text in any of its fields, and the type it is given as."""
    kind = draw(st.sampled_from(sorted(BASES)))
    fields = BASES[kind]()
    places = [fields]
    for name in ("config", "layers", "manifests"):
        value = fields.get(name, [])
        places += value if isinstance(value, list) else [value]
    if draw(st.booleans()) and kind != media_types.DOCKER_SCHEMA1:
        fields["subject"] = corpus.CHILD.descriptor()
        places.append(fields["subject"])
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.sampled_from(places))
        known = _TOP if place is fields else _DESCRIPTOR
        name = draw(st.sampled_from(sorted(known)))
        place[name] = draw(known[name])
    if draw(st.booleans()):
        fields[draw(hostile)] = draw(anything)
    content = json.dumps(fields).encode()
    return content, draw(st.just(kind) | hostile) if draw(st.integers(0, 9)) == 0 else kind


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalExportDriver]:
    folder = Path(tempfile.mkdtemp(prefix="properties-"))
    driver = LocalExportDriver(folder / "image-serve")
    for digest, content in corpus.BLOBS.items():
        driver.upload_layer(NAME, [content], expected=Digest(digest))
    yield driver
    driver.close()
    shutil.rmtree(folder)


# -- what may stand in a tree

_DIGEST = r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_TYPE = "(?:" + "|".join(map(re.escape, sorted(media_types.MANIFEST_TYPES))) + ")"
_FOLDER = r"(?:sha256:[0-9a-f]{64}|\.sha512:[0-9a-f]{128})"
_DIVISION = r"(?:(?:of-)?[1-9][0-9]*|\.heads|\.tails|\.gone)"
_FILTER = r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\+[A-Za-z0-9][A-Za-z0-9._-]*){1,2}"

HTACCESS = re.compile(
    rf'Header set Content-Type "{_TYPE}"\nHeader set Docker-Content-Digest "{_DIGEST}"\n'
)
PAGE_TYPE_MAP = re.compile(
    rf"URI: (?:(?:[1-9][0-9]?)?\.start|{_TAG})\+\n\n"
    rf"Content-Type: application/json\nURI: {_TAG}=\n\n"
)
TYPE_MAP = re.compile(
    rf"URI: (?:{_TAG}|(?:\.pin-)?{_DIGEST})\n\n"
    rf"(?:Content-Type: {_TYPE}(?:; qs=(?:1\.0|0\.5))?\nURI: {_FOLDER}/index\.json\n\n){{1,2}}"
)
LINK = re.compile(
    rf"\.\./(?:manifests/{_FOLDER}|{_DIVISION}|\.\./\.none|\.none)|{_TAG}=|\.end=|{_DIVISION}"
)
PATHS = re.compile(
    "|".join(
        (
            r"index\.json",
            r"\.htaccess",
            r"_catalog",
            r"\.no-referrers",
            rf"ns/img/blobs/{_DIGEST}(?:\.gz)?",
            rf"ns/img/manifests/{_FOLDER}/(?:index\.json|\.htaccess|manifest\.[a-z0-9-]+)",
            rf"ns/img/manifests/(?:{_TAG}|(?:\.pin-)?{_DIGEST})\.type-map",
            r"ns/img/tags/list",
            rf"ns/img/\.(?:tags|defaults)/{_TAG}",
            rf"ns/img/\.pages/(?:\.none|\.rest|\.few/[1-9][0-9]*|{_DIVISION}/\.finer)",
            rf"ns/img/\.pages/{_DIVISION}/(?:(?:[1-9][0-9]?)?\.start|{_TAG})\+(?:\.type-map)?",
            rf"ns/img/\.pages/{_DIVISION}/(?:\.end|{_TAG})=",
            r"\.catalog/(?:\.none|\.rest|1/\.start\+|1/\.end=|1/ns/img\+|\.gone/ns/img\+)",
            rf"ns/img/\.referrers/{_DIGEST}/(?:all|{_FILTER})",
        )
    )
)


def check_files(root: Path) -> None:
    """Each file that a web server obeys, in full; each path; each list."""
    for name, content in trees.served(root).items():
        path = name.removeprefix("v2/")
        assert PATHS.fullmatch(path), path
        if isinstance(content, str):
            assert LINK.fullmatch(content), content
        elif path.endswith("/.htaccess"):
            assert HTACCESS.fullmatch(content.decode("ascii")), content
        elif path.endswith(".type-map"):
            grammar = PAGE_TYPE_MAP if "/.pages/" in path else TYPE_MAP
            assert grammar.fullmatch(content.decode("ascii")), content
        elif path in ("_catalog", ".no-referrers") or "/.referrers/" in path or "/tags/" in path:
            assert isinstance(json.loads(content.decode("ascii")), dict)


SETTINGS = hypothesis.settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.mark.slow
@SETTINGS
@hypothesis.given(manifests())
def test_a_manifest_with_hostile_text(shared: LocalExportDriver, given: tuple[bytes, str]) -> None:
    content, media_type = given
    root = Path(shared._storage.root)
    before = trees.served(root)
    try:
        stored = shared.put_manifest(NAME, content, media_type, tag=Tag("x"))
    except errors.UploaderError as e:
        hypothesis.event(type(e).__name__)
        assert str(e).isprintable()
        assert len(str(e)) < 1500
        assert trees.served(root) == before
        return
    hypothesis.event("taken")
    check_files(root)
    assert (root / f"v2/ns/img/manifests/{stored.digest}/index.json").read_bytes() == content
    parsed = Manifest.parse(content, media_type)
    if parsed.subject:
        listing = root / f"v2/ns/img/.referrers/{parsed.subject.digest}/all"
        listed = json.loads(listing.read_bytes())["manifests"]
        (ours,) = (d for d in listed if d["digest"] == str(stored.digest))
        assert ours.get("annotations", {}) == dict(parsed.annotations)
        assert Descriptor.parse({**ours, "artifactType": None}).size == len(content)
    # The next example starts from what this one found.
    shared.delete(ImageRef(NAME, stored.digest))
    for digest, blob in corpus.BLOBS.items():
        shared.upload_layer(NAME, [blob], expected=Digest(digest))


@pytest.mark.slow
@SETTINGS
@hypothesis.given(hostile, hostile, hostile)
def test_names_tags_and_digests_given_to_every_verb(
    shared: LocalExportDriver, name: str, tag: str, digest: str
) -> None:
    root = Path(shared._storage.root)
    before = trees.served(root)
    content, media_type = corpus.text(corpus.image()), media_types.OCI_MANIFEST
    for attempt in (
        lambda: shared.delete(ImageRef(RepositoryName(name), Tag(tag))),
        lambda: shared.delete(ImageRef(NAME, Tag("not-" + tag))),
        lambda: shared.delete(ImageRef.parse(f"{name}:{tag}")),
        lambda: shared.delete(ImageRef.parse(f"ns/img@{digest}")),
        lambda: shared.put_manifest(RepositoryName(name), content, media_type, tag=Tag(tag)),
        lambda: shared.put_manifest(NAME, content, media_type, expected=Digest(digest)),
        lambda: shared.upload_layer(NAME, [b"x"], expected=Digest(digest)),
        lambda: shared.mount_layers(NAME, trees.described(Digest(digest))),
    ):
        try:
            attempt()
        except errors.UploaderError as e:
            assert str(e).isprintable()
            assert len(str(e)) < 1500
        else:
            raise AssertionError("nothing that hostile may work")
    assert trees.served(root) == before


@pytest.mark.slow
@SETTINGS
@hypothesis.given(hostile)
def test_a_tag_that_is_put_is_served_under_its_name(shared: LocalExportDriver, text: str) -> None:
    root = Path(shared._storage.root)
    try:
        tag = Tag(text)
        layout.check_tag(tag)
    except errors.InvalidReference:
        hypothesis.assume(False)
    content = corpus.text(corpus.image())
    shared.put_manifest(NAME, content, media_types.OCI_MANIFEST, tag=tag)
    check_files(root)
    assert text in trees.tags(root, "ns/img")
    assert (root / "v2/ns/img/.tags" / text / "index.json").read_bytes() == content


def _valid(kind: Callable[[str], Any], text: str) -> Any:
    with contextlib.suppress(errors.InvalidReference):
        return kind(text)
    return None


@hypothesis.given(hostile, hostile, hostile)
def test_references_come_back_as_they_were(name: str, tag: str, digest: str) -> None:
    for text in (f"{name}:{tag}", f"{name}@{digest}", f"{name}:{tag}@{digest}", name):
        found = _valid(ImageRef.parse, text)
        if found is None:
            continue
        assert ImageRef.parse(str(found)) == found
        assert PATHS_OF_NAMES.fullmatch(str(found.repository))
        assert ".." not in str(found).split("/")
    for kind in (RepositoryName, Tag, Digest):
        value = _valid(kind, name)
        assert value is None or (str(value) == name and kind(str(value)) == value)


PATHS_OF_NAMES = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")


@pytest.mark.slow
@hypothesis.given(st.from_regex(r"\A[a-z0-9]+(/[a-z0-9]+){0,3}\Z"), st.from_regex(rf"\A{_TAG}\Z"))
def test_good_references_are_taken(name: str, tag: str) -> None:
    hypothesis.assume(
        len(name) < 256 and not {"blobs", "manifests", "tags", "referrers"} & set(name.split("/"))
    )
    for host in ("", "localhost:5000/", "192.0.2.1:8787/"):
        assert ImageRef.parse(f"{host}{name}:{tag}") == ImageRef(RepositoryName(name), Tag(tag))


@hypothesis.given(hostile)
def test_views_write_no_type_that_is_not_one_of_ours(text: str) -> None:
    hypothesis.assume(text not in media_types.MANIFEST_TYPES)
    with pytest.raises(errors.ManifestInvalid):
        documents.htaccess(text, Digest.of(b""))
    with pytest.raises(errors.ManifestInvalid):
        documents.type_map("x", [documents.Variant(text, Digest.of(b""))])


@hypothesis.given(st.binary() | hostile.map(lambda text: text.encode("utf-8", "replace")))
def test_any_type_map_is_read_or_refused(text: bytes) -> None:
    with contextlib.suppress(errors.ManifestInvalid):
        assert all(isinstance(digest, Digest) for digest in documents.parse_type_map(text))
    with contextlib.suppress(ValueError, KeyError, TypeError):
        assert all(isinstance(name, str) for name in documents.parse_catalog(text))


@hypothesis.given(hostile | st.text(), st.integers(20, 400))
def test_text_of_strangers_is_short_and_prints(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert line.isprintable()
    assert len(line) <= limit
    line.encode()
    if text.isprintable() and len(text) <= limit and " " not in text:
        assert line == text


@pytest.mark.slow
@hypothesis.given(anything)
def test_values_of_strangers_are_short_and_print(value: Any) -> None:
    assert shown(value).isprintable()
    assert len(shown(value)) <= 200


# -- options


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "with space",
        'quo"te',
        "quo'te",
        "$HOME",
        "%(x)s",
        "back\\slash",
        "\u00e9\u202e",
        "#hash",
        "a;b",
    ],
)
def test_a_root_of_any_name(tmp_path: Path, name: str) -> None:
    """The tree is where the option says, to the letter, or the option is refused."""
    config = commands.configuration(tmp_path / name.replace("$", "$$"), tmp_path)
    conf = loader.load_conf(config_files=[str(config)])
    with loader.load_driver(conf) as driver:
        trees.put(driver, corpus.CHILD, "1.0")
    assert trees.problems(tmp_path / name) == []
    assert {path.name for path in tmp_path.iterdir()} == {config.name, name}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[local_export]\nroot = relative/path\n", "absolute"),
        (b"[local_export]\nroot =\n", "absolute"),
        (b"[local_export]\nroot = /x\0y\n", "root has a null byte"),
        (b"[local_export]\nroot = $nothing\n", "nothing"),
        (b"[local_export]\nlease_timeout = soon\n", "lease_timeout"),
        (b"[local_export]\nlease_timeout = -1\n", "lease_timeout"),
        (b"[local_export]\nroot = /\xff\xfe\n", r"uploader\.conf: .*utf-8"),
        (b"root = /x\n", "uploader.conf"),
        (b"[local_export\nroot = /x\n", "uploader.conf"),
    ],
)
def test_options_that_cannot_work(tmp_path: Path, text: bytes, reason: str) -> None:
    config = tmp_path / "uploader.conf"
    config.write_bytes(text)
    with pytest.raises(errors.ConfigurationError, match=f"(?i){reason}"):
        loader.load_driver(loader.load_conf(config_files=[str(config)])).close()
    assert [path.name for path in tmp_path.iterdir()] == [config.name]
