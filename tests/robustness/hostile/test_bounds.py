# SPDX-License-Identifier: Apache-2.0
"""Bounds on everything that a source decides.

=============================  ==============================================  =====================
quantity                       bound                                           what comes then
=============================  ==============================================  =====================
bytes of a manifest            4 MiB, or what its index says                   ManifestInvalid
nesting of a manifest's JSON   200 levels                                      ManifestInvalid
values of a manifest           250,000                                         ManifestInvalid
numbers in a manifest          4300 digits; a size 2^63-1                      ManifestInvalid
descriptors of a manifest      what 4 MiB hold (about 50,000)
children copied of an index    1000, at 4 levels of indexes                    ManifestInvalid
blobs copied of an image       10,000, of all its manifests together           ManifestInvalid
bytes of a blob                what its descriptor says; 16 GiB without a size SizeMismatch
bytes of a token, or of GET    1 MiB, after decompression                      RequestException
  /v2/
bytes of a redirect's body     none are read
redirects                      30 (requests)                                   TooManyRedirects
where a redirect leads         http and https                                  InvalidSchema
lines of headers               65536 bytes each, 100 of them (http.client)     ConnectionError
Retry-After                    60 seconds, of 5 attempts
silence                        30 seconds, of 5 attempts                       Timeout
slowness, also of headers      1024 bytes/s over 30 seconds, of 5 attempts     TransferTooSlow
time of one answer             6 hours                                         TransferTooSlow
text in an error               one line of 1000 printable characters
digests in an error            10
labels that become a tag       the grammar of tags                             InvalidReference
annotations in a list of       what fits into 4 MiB, the longest left out
  referrers
list of a subject's referrers  4 MiB without annotations                       StorageFull
=============================  ==============================================  =====================
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from oslo_config import cfg
from tripleo_common.image import exception

from image_uploader_plugins import errors, manifest, media_types, strict_json, tripleo
from image_uploader_plugins.cli.program import PrintableFormatter
from image_uploader_plugins.copying.copier import Copier
from image_uploader_plugins.digest import Digest
from image_uploader_plugins.pace import LONGEST_PAUSE
from image_uploader_plugins.reference import RepositoryName, Tag
from image_uploader_plugins.sources import registry_source
from image_uploader_plugins.sources.source import Source
from image_uploader_plugins.testing import images, web_server
from image_uploader_plugins.testing.memory import MemoryDriver
from image_uploader_plugins.testing.web_server import Answer
from tests.robustness.hostile import corpus
from tests.support import commands, quick, trees, web
from tests.support.clock import Clock
from tests.support.registry import TamperedRegistry
from tests.support.sources import source

IMAGE = images.image("ns/img", "1.0", [images.layer({"file": b"content"})])
LAYER = IMAGE.manifest.layers[0]
ENDLESS = Answer(200, {"Content-Type": "application/json"}, itertools.repeat(b"x" * 65536))
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m"

Change = Callable[[Answer, Message], Answer]
NAME = RepositoryName(corpus.NAME)


@pytest.fixture
def upload(
    source_address: str, registry: TamperedRegistry, conf: cfg.ConfigOpts, tmp_path: Path
) -> Any:
    registry.add(IMAGE)

    def upload(name: str = "ns/img:1.0", **more: Any) -> Any:
        item = {
            "imagename": f"{source_address}/{name}",
            "push_destination": "192.0.2.1:8787",
            **more,
        }
        path = tmp_path / "images.yaml"
        path.write_text(yaml.safe_dump({"container_images": [item]}))
        return tripleo.upload_files([str(path)], conf)

    return upload


def refused_by(address: str) -> Change:
    realm = f'Bearer realm="http://{address}/token",service="x"'
    return lambda answer, headers: (
        answer
        if headers["Authorization"]
        else Answer(401, {"WWW-Authenticate": realm, "Content-Length": "0"})
    )


def token(**fields: Any) -> Change:
    return lambda answer, headers: Answer.of(json.dumps(fields).encode(), "application/json")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda answer, headers: ENDLESS, "more than 1048576 bytes"),
        (token(token="x" * 2**20), "more than 1048576 bytes"),
        (token(token="x" * 2**18), ""),
        (token(token="x\nX-Evil: 1"), "answers without a token"),  # noqa: S106
        (token(), "cannot log in at .*: 200 answers without a token"),
        (lambda answer, headers: Answer.of(b"[]", "application/json"), "cannot log in"),
        (lambda answer, headers: Answer.of(b"7", "application/json"), "cannot log in"),
        (lambda answer, headers: Answer.of(b"[" * 10**5, "application/json"), ""),
        (lambda answer, headers: Answer.of(b"\xff", "application/json"), ""),
        (lambda answer, headers: Answer(302, {"Location": "/token"}), "cannot log in at .*302"),
    ],
)
def test_a_token_that_is_none(
    upload: Any,
    registry: TamperedRegistry,
    source_address: str,
    root: Path,
    change: Change,
    reason: str,
) -> None:
    registry.tamper = {"/token": change, "/v2/": refused_by(source_address)}
    with pytest.raises((requests.RequestException, exception.ImageUploaderException)) as caught:
        upload()
    check_error(caught.value, f"{source_address}/ns/img:1.0")
    assert re.search(reason, str(caught.value)), str(caught.value)
    assert not (root / "v2/ns").exists()


def check_error(error: BaseException, subject: str) -> None:
    text = str(error)
    assert subject in text
    assert text.isprintable()
    assert len(text) <= 1000


@pytest.mark.slow
@pytest.mark.parametrize(
    "header",
    ["x", 'Bearer realm="', "Bearer realm=x,service=y", 'Bearer realm="file:///x"', "y" * 60000],
)
def test_a_challenge_that_is_none(
    upload: Any,
    registry: TamperedRegistry,
    source_address: str,
    root: Path,
    header: str,
) -> None:
    refusal = Answer(401, {"WWW-Authenticate": header, "Content-Length": "0"})
    registry.tamper["/v2/"] = lambda answer, headers: refusal
    with pytest.raises((requests.RequestException, exception.ImageUploaderException)) as caught:
        upload()
    check_error(caught.value, f"{source_address}/ns/img:1.0")
    assert not (root / "v2/ns").exists()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["manifests/", f"blobs/{LAYER.digest}"])
def test_a_redirect_with_a_body_and_without_an_end(
    upload: Any,
    registry: TamperedRegistry,
    root: Path,
    part: str,
) -> None:
    def change(answer: Answer, headers: Message) -> Answer:
        registry.tamper.clear()
        # Another blob may have been asked for meanwhile.
        here = next(path for path, _ in reversed(registry.requests) if part in path)
        where = {"Location": here, "Content-Type": "text/html"}
        return Answer(307, where, ENDLESS.body)

    registry.tamper[part] = change
    upload()
    assert trees.problems(root) == []


def test_redirects_end(upload: Any, registry: TamperedRegistry, root: Path) -> None:
    registry.tamper["blobs/"] = lambda answer, headers: Answer(
        302, {"Location": registry.requests[-1][0], "Content-Length": "0"}
    )
    with pytest.raises(exception.ImageUploaderException, match="more than 5 redirects"):
        upload()
    assert trees.catalog(root) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "headers", [{"X-Long": "x" * 70_000}, {f"X-{n}": "x" for n in range(200)}], ids=["long", "many"]
)
def test_headers_end(
    upload: Any,
    registry: TamperedRegistry,
    root: Path,
    headers: dict[str, str],
) -> None:
    registry.tamper["manifests/"] = lambda answer, _: dataclasses.replace(
        answer, headers={**answer.headers, **headers}
    )
    with pytest.raises(requests.RequestException) as caught:
        upload()
    check_error(caught.value, "ns/img:1.0")
    assert trees.catalog(root) == [] if (root / "v2").exists() else True


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["9" * 9, "9" * 5000, "Wed, 21 Oct 2099 07:28:00 GMT", "x"])
@pytest.mark.parametrize("status", [413, 429, 503])
def test_nobody_waits_as_long_as_a_registry_says(
    upload: Any,
    registry: TamperedRegistry,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    asked: str,
) -> None:
    """Neither where we pause nor in urllib3, which would of its own accord."""
    clock = Clock(0.0)
    clock.rule(monkeypatch)
    refusal = Answer(status, {"Retry-After": asked, "Content-Length": "0"})
    # One blob alone, for on this clock another might begin after it has given up.
    registry.tamper[f"blobs/{LAYER.digest}"] = lambda answer, headers: refusal
    with pytest.raises((requests.RequestException, exception.ImageUploaderException)):
        upload()
    assert registry.asked(f"blobs/{LAYER.digest}") <= 25
    assert clock.now <= LONGEST_PAUSE + 60


class Listing(Source):
    """An index under the tag x, and its children; no blob is ever asked for."""

    def __init__(self, index: manifest.Manifest, child: Callable[[Any], manifest.Manifest]) -> None:
        self._index = index
        self._child = child
        self.asked: list[Any] = []

    def manifest(self, reference: Any, size: int | None = None) -> manifest.Manifest:
        self.asked.append(reference)
        return self._index if reference == Tag("x") else self._child(reference)

    def blob(self, descriptor: Any, start: int = 0) -> Iterator[bytes]:
        raise AssertionError("all are there")


class Holding(MemoryDriver):
    """A target that holds every blob."""

    def __init__(self) -> None:
        super().__init__()
        self.mounted: set[Digest] = set()

    def mount_layers(self, target: Any, layers: Any, *args: Any, **more: Any) -> Any:
        found = frozenset(layer.digest for layer in layers)
        self.mounted |= found
        return found

    def put_manifest(self, target: Any, content: bytes, *args: Any, **more: Any) -> Any:
        return manifest.Descriptor("a/b", Digest.of(content), len(content))


@pytest.mark.parametrize(("children", "taken"), [(1000, True), (1001, False)])
def test_so_many_children(monkeypatch: pytest.MonkeyPatch, children: int, taken: bool) -> None:
    """Whatever the index holds, no more than so many are asked for."""
    listed = [
        corpus.CHILD.descriptor(digest=str(Digest.of(str(n).encode()))) for n in range(children)
    ]
    index = manifest.Manifest.parse(corpus.text(corpus.index(*listed)))
    source = Listing(index, lambda _: corpus.CHILD.manifest)
    copier = Copier(Holding(), NAME, source)
    if taken:
        copier.copy(Tag("x"), None, all_platforms=True)
        return
    with pytest.raises(errors.ManifestInvalid, match="more than 1000"):
        copier.copy(Tag("x"), None, all_platforms=True)
    assert len(source.asked) == 1001


def many_layers(start: int, end: int) -> images.Image:
    """An image of one config, the same for all, and of layers with these numbers."""
    content = corpus.text(
        corpus.image(
            layers=[
                corpus.LAYER.descriptor(digest=str(Digest.of(str(n).encode())))
                for n in range(start, end)
            ]
        )
    )
    return images.Image(NAME, None, manifest.Manifest.parse(content))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parts", "taken"),
    [
        ([(0, 9_999)], True),
        ([(0, 10_000)], False),
        ([(0, 6_000), (3_000, 9_999)], True),
        ([(0, 6_000), (6_000, 10_000)], False),
    ],
)
def test_so_many_blobs(parts: list[tuple[int, int]], taken: bool) -> None:
    """Of one image, or of all that an index lists; nothing is fetched of what is too much."""
    children = {str(image.digest): image for image in (many_layers(*part) for part in parts)}
    whole = next(iter(children.values())).manifest
    if len(children) > 1:
        listed = [image.descriptor() for image in children.values()]
        whole = manifest.Manifest.parse(corpus.text(corpus.index(*listed)))
    driver = Holding()
    source = Listing(whole, lambda reference: children[str(reference)].manifest)
    copier = Copier(driver, NAME, source)
    if taken:
        copier.copy(Tag("x"), None, all_platforms=True)
        assert len(driver.mounted) == 10_000
        return
    with pytest.raises(errors.ManifestInvalid, match="more than 10000 blobs"):
        copier.copy(Tag("x"), None, all_platforms=True)
    assert len(driver.mounted) < 10_000


def test_a_layer_without_a_size_ends(
    monkeypatch: pytest.MonkeyPatch, driver: Any, root: Path, no_waiting: None
) -> None:
    monkeypatch.setattr(registry_source, "UNKNOWN_SIZE_LIMIT", 1_000_000)
    content = corpus.text(corpus.schema1(fsLayers=[{"blobSum": corpus.ABSENT}]))

    def answer(path: str, headers: Message) -> Answer:
        if "/blobs/" in path:
            return ENDLESS
        return Answer.of(content, media_types.DOCKER_SCHEMA1)

    with web_server.serving(answer) as where:
        copier = Copier(driver, NAME, source(where, "x"))
        with pytest.raises(errors.SizeMismatch, match="expected 1000000"):
            copier.copy(Tag("x"), Tag("x"), all_platforms=False)
    assert trees.catalog(root) == []
    assert list((root / ".local-export/staging").glob("*/*")) == []


# -- what people get to read


@pytest.mark.slow
def test_what_a_registry_says_reaches_no_terminal(tmp_path: Path, config: Path) -> None:
    """Neither its escapes nor its line breaks, in errors or in the log; and no more than a bit."""
    registry = TamperedRegistry([IMAGE])
    listed = tmp_path / "images.yaml"
    with web_server.serving(registry) as where:
        location = {"Location": f"http://{where}/v2/{'x' * 5000}", "Content-Length": "0"}
        for change in (
            lambda answer, headers: Answer(404, {"Content-Length": "0"}),
            lambda answer, headers: Answer(302, location),
            lambda answer, headers: Answer.of(
                corpus.text(corpus.image(mediaType=ESCAPES + "\r\nINFO: all is well")), "a/b"
            ),
            lambda answer, headers: Answer.of(
                corpus.text(corpus.image(schemaVersion=[ESCAPES] * 9999)), "a/b"
            ),
            lambda answer, headers: Answer(302, {"Location": "gopher://" + ESCAPES}),
        ):
            registry.tamper["manifests/"] = change
            item = {"imagename": f"{where}/ns/img:1.0", "push_destination": "192.0.2.1:8787"}
            listed.write_text(yaml.safe_dump({"container_images": [item]}))
            done = commands.process(config, "upload", listed)
            assert done.returncode == 1
            *_, last = lines = done.stderr.splitlines()
            assert "ns/img:1.0" in last
            assert all(line.isprintable() for line in lines), lines
            assert len(last) < 1100
            assert "\x1b" not in done.stderr


@pytest.mark.slow
def test_what_an_argument_says_reaches_no_terminal(tmp_path: Path) -> None:
    """A message that no part of ours made."""
    done = commands.process(Path(f"{tmp_path}/{ESCAPES}"), "verify")
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "\x1b" not in done.stderr


def test_a_log_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    formatter = PrintableFormatter("%(levelname)s: %(message)s")
    try:
        raise ValueError(f"bad{ESCAPES}\nERROR: forged")
    except ValueError:
        record = logging.LogRecord(
            "x", logging.ERROR, "x", 1, "a %s", (f"b\n{ESCAPES}",), sys.exc_info()
        )
    text = formatter.format(record)
    first, *rest = text.splitlines()
    assert first.startswith("ERROR: a b \\x1b[2J")
    assert all(line.isprintable() for line in rest)
    assert "Traceback" in rest[0]


def test_many_absent_blobs_are_few_in_a_message() -> None:
    error = errors.BlobUnknown([Digest.of(str(n).encode()) for n in range(50_000)])
    assert len(error.digests) == 50_000
    assert str(error).endswith(" and 49990 more")
    assert len(str(error)) < 1000
    assert "more" not in str(errors.BlobUnknown(error.digests[:10]))


@pytest.mark.parametrize("label", ["a/b", "/..", "x" * 129, ESCAPES, "a\nb", "1.0.json", "\ud800"])
def test_a_label_that_becomes_a_tag(upload: Any, root: Path, label: str) -> None:
    with pytest.raises(exception.ImageUploaderException) as caught:
        upload(modify_append_tag="-" + label)
    assert str(caught.value).isprintable()
    assert trees.catalog(root) == [] if (root / "v2").exists() else True


# -- what is temporary


@pytest.mark.slow
@pytest.mark.parametrize("kind", quick.alone({"embedded"}, web.KINDS))
def test_what_a_killed_process_leaves_beside_has_no_url(kind: web.Kind) -> None:
    """Where another file system begins, a temporary file lies in a folder that is served."""
    name = "." + "0123456789abcdef" * 2
    with web.open_folder() as folder:
        root = folder / "image-serve"
        trees.put_in(root, IMAGE)
        top = root / "v2/ns/img"
        for place in (top / "blobs", top / "manifests", top / "tags", top / ".tags", root / "v2"):
            (place / name).write_text("half")
            (place / name).chmod(0o644)
        with web.serve(kind, root) as where:
            assert requests.get(f"http://{where}/v2/ns/img/tags/list", timeout=30).ok
            for path in ("ns/img/blobs", "ns/img/manifests", "ns/img/tags", "ns/img/.tags", ""):
                url = f"http://{where}/v2/{path}/{name}"
                answer = requests.get(url, timeout=30)
                assert answer.status_code in (400, 403, 404), url
                assert b"half" not in answer.content
            for path in (".local-export", ".local-export/pool", "v2/../.local-export/locks"):
                assert requests.get(f"http://{where}/{path}", timeout=30).status_code >= 400


@pytest.mark.slow
@pytest.mark.parametrize("filler", ["[]", "{}", "1", '""', '{"a":1}', "[[]]"])
def test_a_manifest_of_many_values_costs_no_memory(filler: str) -> None:
    """4 MiB of empty lists would take 90 MB, and several are read at once."""
    content = corpus.text(corpus.image(x=[]))
    count = (manifest.SIZE_LIMIT - len(content)) // (len(filler) + 1)
    bomb = content.replace(b'"x": []', b'"x": [%s]' % b",".join([filler.encode()] * count))
    assert strict_json.VALUES_LIMIT * 8 < len(bomb) <= manifest.SIZE_LIMIT
    tracemalloc.start()
    try:
        with pytest.raises(errors.ManifestInvalid, match="more than 250000 values"):
            manifest.Manifest.parse(bomb)
        assert tracemalloc.get_traced_memory()[1] < 3 * manifest.SIZE_LIMIT
    finally:
        tracemalloc.stop()


def test_what_looks_like_values_in_a_string_is_none() -> None:
    """Whole documents stand in annotations."""
    text = json.dumps({"text": '[{,\\"' * 500_000})
    assert len(strict_json.load(text.encode())["text"]) == 2_500_000


LEVELS = strict_json.LEVELS_LIMIT


@pytest.mark.parametrize("load", [strict_json.load_any, strict_json.load_leniently])
@pytest.mark.parametrize(
    ("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('["]}",', "]"), (r'["\"]",', "]")]
)
def test_levels_are_counted_before_they_are_read(
    load: Callable[[bytes], Any], opening: str, closing: str
) -> None:
    """At the interpreter's limit, whatever is collected just then would fail too."""

    def levels(count: int) -> bytes:
        return (opening * count + "0" + closing * count).encode()

    assert load(levels(LEVELS)) == json.loads(levels(LEVELS))
    assert load(b'["' + b"[{" * LEVELS + b'"]') == ["[{" * LEVELS]
    for content in (levels(LEVELS + 1), opening.encode() * 100_000):
        with pytest.raises(errors.ManifestInvalid, match="nested too deeply"):
            load(content)
    many = b"[" + b",".join([b"[[]]"] * LEVELS) + b"]"
    assert len(load(many)) == LEVELS


@pytest.mark.parametrize(
    "text", ['"' + r"\"" * 1_000_000, '"' + "\\" * 999_999, r'["\",{"' * 500_000]
)
def test_strings_without_an_end_cost_no_time(text: str) -> None:
    """Were every quote tried as the first of a string, this would take hours."""
    with pytest.raises(errors.ManifestInvalid):
        strict_json.load(text.encode() + b"," * 250_001)


@pytest.mark.slow
def test_the_most_descriptors_that_a_manifest_holds_are_taken() -> None:
    least = {"mediaType": "a/b", "digest": corpus.ABSENT, "size": 1}
    count = 35_000
    content = json.dumps(
        {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [least] * count},
        separators=(",", ":"),
    ).encode()
    assert manifest.SIZE_LIMIT * 0.9 < len(content) <= manifest.SIZE_LIMIT
    assert len(manifest.Manifest.parse(content).manifests) == count
